"""Which worker process executes a run: it is written on the run, and other workers read it."""

import hashlib
import os
import re
import secrets
import socket
import sys
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from flows.core.private_files import read_or_make
from flows.core.stopwatch import boot_id
from flows.launcher.local.processes import read_process

_MACHINE_FILE: Final = "machine-id"
_SYSTEM_FILE: Final = Path("/etc/machine-id")
_PROCESS_NAMESPACE: Final = Path("/proc/self/ns/pid")
_FIRST_NAMESPACE: Final = "pid:[4026531836]"
"""That of the machine itself (PROC_PID_INIT_INO of Linux)."""
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")


class Owner(NamedTuple):
    """A worker process: machine (boot included), process id and its start time in clock ticks.

    A machine has two ids, as machines may share a home folder: one in OUMI_FLOWS_HOME and the
    system's own (machine-id(5)). Its host name may change and need not be unique. The boot id tells
    a process of an earlier boot from a live one with the same process id; it includes the
    container, if there is one. Machines cloned from one image have the same ids, but other boots.

    Attributes:
        worker: The name of the worker in its pool, by which Prefect knows its heartbeats; empty: an
            earlier version wrote none.
    """

    machine: str
    pid: int
    started: int
    worker: str = ""

    @classmethod
    def current(cls, home: Path, *, worker: str = "", system_file: Path = _SYSTEM_FILE) -> "Owner":
        """This process on this machine.

        Args:
            home: OUMI_FLOWS_HOME.
            worker: The name of the worker.
            system_file: Has the system's id.
        """
        pid = os.getpid()
        machine = f"{_boot()}@{_home_id(home)}{_system_id(system_file)}"
        return cls(machine, pid, _start_time(pid) or 0, worker)

    @classmethod
    def parse(cls, text: str | None) -> "Owner | None":
        """The owner written on a run as its `infrastructure_pid`; None for anything else."""
        worker, _, process = (text or "").rpartition("/")
        match process.rsplit(":", 2):
            case [machine, pid, started] if pid.isdecimal() and started.isdecimal():
                return cls(machine, int(pid), int(started), worker)
            case _:
                return None

    def __str__(self) -> str:
        """The text to write on a run."""
        process = f"{self.machine}:{self.pid}:{self.started}"
        return f"{self.worker}/{process}" if self.worker else process

    def is_alive(self, us: "Owner") -> bool | None:
        """Whether the process lives; None if only the heartbeats of its worker tell.

        They do if it may be on another machine than `us`: a cloned one has our ids.
        """
        if not self.has_ids_of(us):
            return None
        if self._boot == us._boot:
            return _start_time(self.pid) == self.started
        # A worker has the name of its host, so this host was started again.
        return False if self.worker in ("", us.worker) else None

    def is_process_of(self, other: "Owner") -> bool:
        """Whether both are the same process, whatever the names of their workers."""
        return self._replace(worker="") == other._replace(worker="")

    def has_ids_of(self, us: "Owner") -> bool:
        """Whether it is on our machine, or on one with the same ids."""
        # A worker of an earlier version wrote the machine's name.
        return self._ids in (us._ids, socket.gethostname())

    def shares_home_with(self, us: "Owner") -> bool:
        """Whether both have the same OUMI_FLOWS_HOME, maybe on several machines."""
        return self._ids.partition(".")[0] == us._ids.partition(".")[0]

    @property
    def _boot(self) -> str:
        return self.machine.partition("@")[0]

    @property
    def _ids(self) -> str:
        return self.machine.partition("@")[2]


def _boot() -> str:
    return (boot_id() or str(int(psutil.boot_time()))) + _container()


def _container() -> str:
    """The number of the process namespace; empty outside a container."""
    try:
        namespace = _PROCESS_NAMESPACE.readlink().name
    except OSError:
        return ""
    return "" if namespace == _FIRST_NAMESPACE else f".{namespace.strip('pid:[]')}"


def _system_id(file: Path) -> str:
    """The system's id, which differs between machines that share a home; empty if there is none."""
    try:
        number = file.read_bytes().strip()
    except OSError:
        return ""
    # The id itself must stay secret.
    return f".{hashlib.sha256(number).hexdigest()[:8]}" if number else ""


def _home_id(home: Path) -> str:
    """The id of OUMI_FLOWS_HOME, created by the first call."""
    return read_or_make(
        home / _MACHINE_FILE,
        make=lambda: secrets.token_hex(16),
        accept=lambda text: _MACHINE_ID.fullmatch(text) is not None,
    )


def _start_time(pid: int) -> int | None:
    if sys.platform == "linux":
        # Not from psutil, which adds the boot time: that changes when the clock is set.
        known = read_process(pid)
        return None if known is None or known.is_zombie else known.start
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None
