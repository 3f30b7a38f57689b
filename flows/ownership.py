"""Which worker process executes a run: written on the run, read by whoever finds it orphaned."""

import os
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

from flows.launcher.processes import read_process


class Owner(NamedTuple):
    """A worker process: machine (boot included), process id and its start time in clock ticks.

    The machine's boot id keeps a process id of an earlier boot from being taken for a live one.
    """

    machine: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        pid = os.getpid()
        return cls(_machine(), pid, _start_time(pid) or 0)

    @classmethod
    def parse(cls, text: str | None) -> "Owner | None":
        """The owner written on a run as its `infrastructure_pid`; None for anything else."""
        match (text or "").rsplit(":", 2):
            case [machine, pid, started] if pid.isdecimal() and started.isdecimal():
                return cls(machine, int(pid), int(started))
            case _:
                return None

    def __str__(self) -> str:
        """The text to write on a run."""
        return f"{self.machine}:{self.pid}:{self.started}"

    def is_alive(self) -> bool | None:
        """Whether the process lives; None if it is on another machine."""
        if self.machine != _machine():
            return False if self._host == _host() else None
        return _start_time(self.pid) == self.started

    @property
    def _host(self) -> str:
        return self.machine.rpartition("@")[2]


def _host() -> str:
    return socket.gethostname()


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = str(int(psutil.boot_time()))
    return f"{boot}@{_host()}"


def _start_time(pid: int) -> int | None:
    if sys.platform == "linux":
        # Not from psutil, which adds the boot time, and that moves with every set of the clock.
        known = read_process(pid)
        return None if known is None or known.is_zombie else known.start
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None
