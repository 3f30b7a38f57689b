"""Which worker process executes a run: written on the run, read by whoever finds it orphaned."""

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
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")


class Owner(NamedTuple):
    """A worker process: machine (boot included), process id and its start time in clock ticks.

    A machine is known by a number that is kept with everything else of ours, and by the system's
    own (machine-id(5)), as a home folder may be shared; its name may change, and others may have
    the same. Its boot id keeps a process id of an earlier boot from being taken for a live one.
    """

    machine: str
    pid: int
    started: int

    @classmethod
    def current(cls, home: Path) -> "Owner":
        """This process, on the machine that the folder of everything of ours belongs to."""
        pid = os.getpid()
        machine = f"{_boot()}@{_home_id(home)}{_system_id()}"
        return cls(machine, pid, _start_time(pid) or 0)

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

    def is_alive(self, us: "Owner") -> bool | None:
        """Whether the process lives; None if it is on another machine than `us`, who ask."""
        boot, _, machine = self.machine.partition("@")
        our_boot, _, ours = us.machine.partition("@")
        # A worker of an earlier version wrote the machine's name.
        if machine not in (ours, socket.gethostname()):
            return None
        return boot == our_boot and _start_time(self.pid) == self.started


def _boot() -> str:
    return boot_id() or str(int(psutil.boot_time()))


def _system_id() -> str:
    """What tells machines apart that share a home folder; empty where the system has no such id."""
    try:
        number = _SYSTEM_FILE.read_bytes().strip()
    except OSError:
        return ""
    # The id itself is not to be shown to others.
    return f".{hashlib.sha256(number).hexdigest()[:8]}" if number else ""


def _home_id(home: Path) -> str:
    """The number of the folder of everything of ours, made up when it is first asked for."""
    return read_or_make(
        home / _MACHINE_FILE,
        make=lambda: secrets.token_hex(16),
        accept=lambda text: _MACHINE_ID.fullmatch(text) is not None,
    )


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
