"""One-node Slurm and the login node in front of it, on loopback, everything in one folder.

munged, mariadbd, slurmdbd, slurmctld, slurmd and sshd from the distribution's packages, on free
ports and with configurations of our own, so that labs can run side by side. What is outside the
folder is one unix user, removed with it.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from tests.lab.daemons import Daemons
from tests.support.waiting import eventually_sync

PROGRAMS: Final = (
    *("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch"),
    *("sacct", "squeue", "sshd", "ssh", "ssh-keygen", "rsync", "setpriv", "useradd", "userdel"),
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotRun(Exception):
    """Why there can be no lab on this machine."""


class SlurmLab:
    """A running lab.

    Attributes:
        cluster: Its name as Oumi has it, ``user@host``.
        user: The unix user that jobs run as, with a home of its own in `root`.
        root: The folder of everything.
        env: What a process needs in its environment to reach the lab.
    """

    CPUS: Final = 8

    def __init__(self) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
        if missing:
            raise CannotRun(f"not installed: {' '.join(missing)}; see scripts/provision-cluster")
        if os.geteuid() != 0:
            raise CannotRun("only root can start slurmd and sshd for another user")
        # Not under the test session's folder: that is private, and jobs are another user's.
        self.root = Path(tempfile.mkdtemp(prefix="oumi-flows-lab-"))
        self.root.chmod(0o755)
        unique = secrets.token_hex(4)
        self.user = f"lab{unique}"
        self.host = f"slurm-login-{unique}"
        self.cluster = f"{self.user}@{self.host}"
        self.home = self.root / "home"
        self._slurm_conf = self.root / "etc" / "slurm.conf"
        self._daemons = Daemons(self.root / "log")
        self.ssh_port, *self._ports = _free_ports(4)
        self._first_job_id = 1

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to reach the lab over ssh."""
        return {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "OUMI_SLURM_CONNECTIONS": self.cluster,
        }

    @property
    def private_key(self) -> Path:
        """The key that opens the login node."""
        return self.root / "ssh" / "id"

    def up(self) -> None:
        """Start everything; returns once a job would run."""
        for name in ("bin", "etc", "log", "run", "spool", "state", "db", "ssh"):
            (self.root / name).mkdir(mode=0o755)
        self._make_user()
        try:
            self._write_ssh()
            self._write_slurm()
            self._start()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End every job and every daemon, and remove the folder and the user."""
        try:
            if self.slurm("squeue", "-h", check=False).strip():
                self.slurm("scancel", f"--user={self.user}", "--signal=KILL", check=False)
                self.slurm("scancel", f"--user={self.user}", check=False)
                eventually_sync(
                    lambda: not self.slurm("squeue", "-h", check=False).strip(), timeout=30
                )
        finally:
            self._daemons.stop()
            self._kill_left_over()
            shutil.rmtree(self.root, ignore_errors=True)
            subprocess.run(["userdel", self.user], check=True, capture_output=True)

    def slurm(self, *command: str, check: bool = True) -> str:
        """The output of a Slurm command, given by root on the cluster itself."""
        try:
            done = subprocess.run(
                command,
                env={"PATH": _PATH, "SLURM_CONF": str(self._slurm_conf)},
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except subprocess.TimeoutExpired:
            if check:
                raise
            return ""
        if check and done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[str]:
        """The names of all jobs that the cluster ever had, as its accounting tells."""
        listed = self.slurm("sacct", "-X", "-n", "-P", "-a", "-S", "now-1days", "-o", "JobName")
        return listed.split()

    def cut_off(self) -> None:
        """End the login node and every connection to it."""
        for session in self._daemons.children("sshd"):
            with suppress(psutil.NoSuchProcess):
                session.kill()
        self._daemons.stop("sshd")

    def reconnect(self) -> None:
        """Start the login node again."""
        self._start_sshd()

    @contextmanager
    def without_controller(self) -> Generator[None]:
        """While it is open, Slurm does not answer."""
        self._daemons.stop("slurmctld")
        yield
        self._start_controller()

    def forget_jobs(self, *, in_accounts: bool = True) -> None:
        """Lose every job, in Slurm's memory and in its accounts; ids are not given again."""
        self._daemons.stop("slurmd")
        self._daemons.stop("slurmctld")
        if in_accounts:
            self._forget_accounts()
        self._first_job_id += 10_000
        self._write_slurm()
        self._start_controller("-c")
        self._start_node()

    def _forget_accounts(self) -> None:
        sql = "delete from slurm.lab_job_table; delete from slurm.lab_step_table"
        subprocess.run(
            ["mariadb", f"--socket={self.root}/run/mysql", "-e", sql],
            check=True,
            env={"PATH": _PATH},
        )

    def _make_user(self) -> None:
        subprocess.run(
            [
                "useradd",
                "--create-home",
                "--home-dir",
                self.home,
                "--shell",
                "/bin/bash",
                self.user,
            ],
            check=True,
            capture_output=True,
        )
        # Not "!": sshd refuses a locked account.
        subprocess.run(["usermod", "--password", "*", self.user], check=True)

    def _write_ssh(self) -> None:
        folder = self.root / "ssh"
        for name in ("id", "host"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", folder / name],
                check=True,
            )
        entry = pwd.getpwnam(self.user)
        keys = self.home / ".ssh"
        keys.mkdir(mode=0o700)
        shutil.copy(folder / "id.pub", keys / "authorized_keys")
        for path in (keys, keys / "authorized_keys"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        (folder / "sshd_config").write_text(
            f"""\
Port {self.ssh_port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
MaxStartups 100:30:200
MaxSessions 100
PrintMotd no
SetEnv SLURM_CONF={self._slurm_conf}
Subsystem sftp internal-sftp
"""
        )
        (folder / "config").write_text(
            f"""\
Host {self.host}
    HostName 127.0.0.1
    Port {self.ssh_port}
    User {self.user}
    IdentityFile {folder}/id
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""
        )
        # By a wrapper, since ssh looks for its configuration in the home of the password file.
        ssh = self.root / "bin" / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
        ssh.chmod(0o755)

    def _write_slurm(self) -> None:
        host = socket.gethostname().split(".")[0]
        dbd_port, ctld_port, slurmd_port = self._ports
        memory, cpus = _memory_mb(), self.CPUS
        root = self.root
        etc = self._slurm_conf.parent
        self._slurm_conf.write_text(
            f"""\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={root}/run/munge
SlurmUser=root
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=2
MessageTimeout=3
MinJobAge=300
FirstJobId={self._first_job_id}
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=64
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={root}/run/munge
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} \
ThreadsPerCore=1 RealMemory={memory} Gres=gpu:H100:4 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE DefaultTime=01:00:00 State=UP \
OverSubscribe=NO PreemptMode=OFF
PartitionName=cancelled Nodes={host} PriorityTier=0 PreemptMode=CANCEL State=UP
PartitionName=requeued Nodes={host} PriorityTier=0 PreemptMode=REQUEUE State=UP
SlurmdParameters=config_overrides
"""
        )
        for number in range(4):
            (root / f"gpu{number}").touch()
        (etc / "gres.conf").write_text(f"NodeName={host} Name=gpu Type=H100 File={root}/gpu[0-3]\n")
        (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        dbd = etc / "slurmdbd.conf"
        dbd.write_text(
            f"""\
AuthType=auth/munge
AuthInfo=socket={root}/run/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
PidFile={root}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""
        )
        dbd.chmod(0o600)

    def _start(self) -> None:
        root = self.root
        start = self._daemons.start
        key = root / "etc" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        start(
            *("/usr/sbin/munged", "--foreground", "--force", f"--socket={root}/run/munge"),
            *(f"--key-file={key}", f"--pid-file={root}/run/munge.pid"),
            f"--seed-file={root}/run/munge.seed",
            ready=(root / "run" / "munge").exists,
        )
        self._start_database()
        slurm = {"SLURM_CONF": str(self._slurm_conf)}
        start(
            *("/usr/sbin/slurmdbd", "-D"),
            env={**slurm, "MYSQL_UNIX_PORT": f"{root}/run/mysql"},
            ready=lambda: self._answers("sacctmgr", "-n", "list", "cluster"),
        )
        self._start_controller()
        self._start_node()
        self._start_sshd()

    def _start_controller(self, *options: str) -> None:
        self._daemons.start(
            *("/usr/sbin/slurmctld", "-D", *options),
            env={"SLURM_CONF": str(self._slurm_conf)},
            ready=lambda: self._answers("scontrol", "ping"),
        )

    def _start_node(self) -> None:
        self._daemons.start(
            *("/usr/sbin/slurmd", "-D"),
            env={"SLURM_CONF": str(self._slurm_conf)},
            ready=lambda: self.slurm("sinfo", "-h", "-o", "%T", check=False).strip() == "idle",
        )

    def _start_database(self) -> None:
        data, run = self.root / "db", self.root / "run"
        subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"),
                *("--skip-test-db", "--auth-root-authentication-method=normal"),
            ],
            check=True,
            capture_output=True,
        )
        self._daemons.start(
            *("/usr/sbin/mariadbd", "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--skip-networking", "--skip-grant-tables", f"--socket={run}/mysql"),
            *(f"--pid-file={run}/mariadb.pid", "--innodb-buffer-pool-size=64M"),
            *("--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0"),
            ready=(run / "mysql").exists,
        )

    def _start_sshd(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        self._daemons.start(
            *("/usr/sbin/sshd", "-D", "-e", "-f", self.root / "ssh" / "sshd_config"),
            ready=lambda: _listens(self.ssh_port),
        )

    def _kill_left_over(self) -> None:
        left = [
            process
            for process in psutil.process_iter(["username"])
            if process.info["username"] == self.user
        ]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)

    def _answers(self, *command: str) -> bool:
        try:
            self.slurm(*command)
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _memory_mb() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return pages // 2**20 * 9 // 10
