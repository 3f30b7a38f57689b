"""The queue for slots, which the waiting supervisors keep themselves. Standard library only.

A supervisor that waits holds a lock on its ticket's file; one that runs a job holds a lock on the
file of each of its units, which the job's processes inherit. Locks end with the processes that hold
them, so a crash needs no clean-up, and a unit is free only when its job has ended too. Only the
first in the queue takes units: a job of four GPUs waits until four are free, and none passes it.
"""

import fcntl
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.launcher.local.processes import lock_holder, open_descriptor
from flows.launcher.local.slots import Unit, choose_units

_JOB_SLOT_FD: Final = 250
_MORE_SLOT_FDS: Final = 255
"""Descriptors through which a job's processes keep their units; too high for scripts to use, and
not 255, which is bash's own.
"""


def job_descriptor(number: int) -> int:
    """The descriptor through which a job's processes keep the unit of this number."""
    return _MORE_SLOT_FDS + number if number else _JOB_SLOT_FD


def queue_folders(root: Path) -> tuple[Path, Path]:
    """The folders that must exist under `root`: for waiting supervisors, and for slots."""
    return root / ".queue" / "waiting", root / ".slots"


def next_ticket(root: Path) -> int:
    """Take the next number in the order of submission under `root`; each is used once."""
    with open_descriptor(root / ".queue" / "counter", os.O_RDWR | os.O_CREAT) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        ticket = int(os.pread(fd, 20, 0) or b"0") + 1
        os.pwrite(fd, b"%020d" % ticket, 0)
    return ticket


class SlotQueue:
    """One supervisor's place in the queue, then its units.

    Args:
        root: The folder of all clusters.
        ticket: Its number in the order of submission.
        units: What the machine has.
        gpus: Whole GPUs that the job asks for; 0: one share.
    """

    def __init__(self, root: Path, *, ticket: int, units: Sequence[Unit], gpus: int) -> None:
        self._waiting, self._slots_dir = queue_folders(root)
        self._place = self._waiting / f"{ticket:020d}"
        self._place_fd: int | None = None
        self._units = units
        self._gpus = gpus
        self.unit_fds: list[int] = []

    def join(self) -> None:
        """Take its place, which others see only once it is locked."""
        draft = self._place.with_name(f".{self._place.name}")
        self._place_fd = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(self._place_fd, fcntl.LOCK_EX)
        draft.rename(self._place)

    @property
    def has_place(self) -> bool:
        """Whether it waits in the queue."""
        return self._place_fd is not None

    def take_units(self) -> list[Unit]:
        """Take the job's units; empty if others come first or too few are free."""
        if self._head() != self._place:
            return []
        free = {unit.lock: fd for unit in self._units if (fd := self._lock(unit)) is not None}
        chosen = choose_units(self._units, free, gpus=self._gpus)
        self.unit_fds = [free.pop(unit.lock) for unit in chosen]
        for fd in free.values():
            os.close(fd)
        if chosen:
            self.leave()
        return chosen

    def _lock(self, unit: Unit) -> int | None:
        fd = os.open(self._slots_dir / unit.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def leave(self) -> None:
        """Give up its place, and wake the next supervisor."""
        if self._place_fd is not None:
            self._place.unlink(missing_ok=True)
            os.close(self._place_fd)
            self._place_fd = None
            self._wake_head()

    def release(self) -> None:
        """Give up its units, and wake the next supervisor."""
        if self.unit_fds:
            for fd in self.unit_fds:
                os.close(fd)
            self.unit_fds = []
            self._wake_head()

    def _head(self) -> Path | None:
        for place in sorted(self._waiting.glob("[0-9]*")):
            if place == self._place or lock_holder(place) is not None:
                return place
            place.unlink(missing_ok=True)  # its supervisor died
        return None

    def _wake_head(self) -> None:
        head = self._head()
        pid = head and lock_holder(head)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
