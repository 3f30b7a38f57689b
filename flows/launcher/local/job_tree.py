"""The processes of one local job, as its supervisor sees them. Standard library only."""

import ctypes
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Never

from flows.core.names import DEVICES_ENV
from flows.core.stopwatch import boot_id
from flows.launcher.local.control_group import ControlGroup
from flows.launcher.local.job_folder import JOB_DIR_ENV, JobFolder, JobSpec, ProcessRecord
from flows.launcher.local.processes import job_processes, read_process
from flows.launcher.local.slot_queue import job_descriptor

IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Signals that a supervisor ignores, and that a job handles by default."""
GROUP_PREFIX: Final = "oumi-flows-"
"""How the names of the control groups of jobs begin."""
_RESET: Final = (*IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
_SIGNAL_ROUNDS: Final = 4
_FREEZE_ROUNDS: Final = 50
_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)


class JobTree:
    """Every process of a job: of its script, and all that descend from it.

    A control group holds them all where the system allows one. Without it, on Linux, the supervisor
    becomes the parent of each process whose own parent has died. So none can escape it while it
    lives, whatever session the process moves to. Elsewhere only the script's own process group is
    known.
    """

    def __init__(self, folder: JobFolder, spec: JobSpec) -> None:
        self._folder = folder
        self._spec = spec
        self._record: ProcessRecord | None = None
        self._root: int | None = None
        self._is_subreaper = False
        self._group: ControlGroup | None = None
        self.exit_status: int | None = None
        """Exit code of the script, or minus the signal that ended it; None if not known."""
        self.on_end: Callable[[int, int], None] = lambda _pid, _status: None
        """Called with the pid and the status of each child that has ended."""

    def adopt(self, record: ProcessRecord) -> None:
        """Take over the processes of a supervisor that died."""
        self._record = record
        if record.control_group and record.boot_id == boot_id():
            self._group = ControlGroup(Path(record.control_group))

    def start(
        self, *, devices: str, unit_fds: Sequence[int], started_at: float, programs: str = ""
    ) -> str:
        """Start the script; return why that failed, or an empty text.

        Its process waits until it is on record: a job without a record has never run.

        Args:
            devices: ``CUDA_VISIBLE_DEVICES`` of the job; empty: unchanged.
            unit_fds: Descriptors that hold its share of the machine.
            started_at: Wall-clock time.
            programs: Folder that comes first in its PATH; empty: none does.
        """
        self._root = os.getpid()
        self._is_subreaper = _become_subreaper()
        go_read, go_write = os.pipe()
        error_read, error_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            os.close(error_read)
            self._become_script(
                devices=devices,
                unit_fds=unit_fds,
                go=go_read,
                error=error_write,
                programs=programs,
            )
        os.close(go_read)
        os.close(error_write)
        self._group = self._new_group(pid)
        child = read_process(pid)
        self._record = ProcessRecord(
            supervisor_pid=os.getpid(),
            leader_pid=pid,
            leader_start=child.start if child else 0,
            boot_id=boot_id(),
            started_at=started_at,
            control_group=str(self._group.path) if self._group else "",
            devices=devices,
        )
        try:
            self._folder.record_process(self._record)
            os.write(go_write, b"g")
        except OSError:
            os.kill(pid, signal.SIGKILL)
            self._forget(pid)
            raise
        finally:
            os.close(go_write)
        error = os.read(error_read, 1024).decode(errors="replace")
        os.close(error_read)
        if error:
            self._forget(pid)
        return error

    def is_alive(self) -> bool:
        """Whether any process of the job is left; only for the process that supervises it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                if self._group is not None and self._group.is_populated():
                    return True
                return not self._is_subreaper and bool(self.members())
            if pid == 0:
                return True
            code = os.waitstatus_to_exitcode(status)
            if self._record is not None and pid == self._record.leader_pid:
                self.exit_status = code
            self.on_end(pid, code)

    def enter(self, pid: int) -> None:
        """Take in a process that the supervisor forked for the job."""
        if self._group is not None:
            self._group.add(pid)

    def members(self) -> list[int]:
        """Pids of the processes that are left, in the form kill(2) takes."""
        if self._record is None:
            return []
        if sys.platform != "linux":
            return _process_group(self._record.leader_pid)
        found = job_processes(
            f"{JOB_DIR_ENV}={self._folder.path}",
            root=self._root,
            leader=self._record.leader_pid,
            leader_start=self._record.leader_start,
        )
        # A privileged job can leave its group, for example by `systemd-run --scope`: both count.
        held = self._group.pids() if self._group is not None else set[int]()
        return sorted(held.union(found))

    def signal(self, number: int) -> None:
        """Send a signal to every process of the job."""
        if number == signal.SIGKILL and self._group is not None:
            self._group.kill()
        reached: set[int] = set()
        # Repeat, for children of a process that the signal had not reached yet. A later child, say
        # one that saves a file, was started deliberately.
        for _ in range(_SIGNAL_ROUNDS):
            new = set(self.members()) - reached
            _send(new, number)
            if not new:
                break
            reached |= new

    def freeze(self) -> None:
        """Stop every process of the job where it is; `is_frozen` says whether all have stopped."""
        if self._group is not None:
            self._group.freeze()
        # No process forks once it has been sent the signal, so the rounds end (fork(2)).
        stopped: set[int] = set()
        for _ in range(_FREEZE_ROUNDS):
            new = self._outside_frozen_group() - stopped
            if not new:
                break
            _send(new, signal.SIGSTOP)
            stopped |= new

    def is_frozen(self) -> bool:
        """Whether no process of the job runs."""
        if self._group is not None and not self._group.is_frozen() and self._group.pids():
            return False
        if sys.platform != "linux":
            return True
        found = map(read_process, self._outside_frozen_group())
        return all(process is None or process.is_stopped for process in found)

    def thaw(self) -> None:
        """Let the stopped processes of the job run again."""
        outside = self._outside_frozen_group()
        if self._group is not None:
            self._group.thaw()
        _send(outside, signal.SIGCONT)

    def _outside_frozen_group(self) -> set[int]:
        """The processes that no frozen group stops, in the form kill(2) takes."""
        members = set(self.members())
        has_frozen = self._group is not None and self._group.is_freezing()
        return members - self._group.pids() if self._group and has_frozen else members

    @property
    def group(self) -> ControlGroup | None:
        """The control group that holds the job's processes, if one does."""
        return self._group

    def remove_group(self) -> None:
        """Remove the job's control group, once none of its processes is left."""
        if self._group is not None:
            self._group.remove()

    def _forget(self, pid: int) -> None:
        """Reap the process that did not become the script."""
        os.waitpid(pid, 0)
        self.remove_group()

    def _new_group(self, pid: int) -> ControlGroup | None:
        """Create a group for the process `pid`, which has started nothing yet."""
        if not self._spec.uses_control_group:
            return None
        folder = self._folder.path
        # Each supervisor of the job uses the same name, so that none leaves an empty group behind.
        of_folder = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        group = ControlGroup.create(f"{GROUP_PREFIX}{folder.name}-{of_folder}")
        if group is not None and not group.add(pid):
            group.remove()
            return None
        return group

    def _become_script(
        self, *, devices: str, unit_fds: Sequence[int], go: int, error: int, programs: str
    ) -> Never:
        try:
            os.setsid()
            if not os.read(go, 1):
                os._exit(0)  # the supervisor died before putting this process on record
            log = os.open(self._folder.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            for number, fd in enumerate(unit_fds):
                os.dup2(fd, job_descriptor(number))
            env = {**os.environ, **self._spec.env}
            if devices:
                if DEVICES_ENV not in env:  # so the numbers are those of NVML
                    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
                env[DEVICES_ENV] = devices
            if programs:
                env["PATH"] = os.pathsep.join([programs, env.get("PATH", os.defpath)])
            if self._spec.umask is not None:
                os.umask(self._spec.umask)
            for number in _RESET:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            command = ["bash", str(self._folder.script_path)]
            os.execve(self._spec.shell, command, env)  # noqa: S606 - the job is a shell script
        except (OSError, ValueError) as failure:
            os.write(error, str(failure).encode())
        finally:
            os._exit(127)


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _process_group(leader: int) -> list[int]:
    """The process group of `leader` as kill(2) addresses it, while it has members."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return []
    return [-leader]


def _become_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
