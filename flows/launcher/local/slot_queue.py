"""The queue for slots, which the waiting supervisors keep themselves. Standard library only.

A supervisor that waits holds a lock on its ticket's file; one that runs a job holds a lock on a
slot's file, which the job's processes inherit. Locks end with the processes that hold them, so a
crash needs no clean-up, and a slot is free only when its job has ended too.
"""

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.launcher.local.processes import lock_holder, open_descriptor

JOB_SLOT_FD: Final = 250
"""Descriptor through which a job's processes keep their slot; too high for scripts to use."""


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
    """One supervisor's place in the queue, then its slot."""

    def __init__(self, root: Path, *, ticket: int, slots: int) -> None:
        self._waiting, self._slots_dir = queue_folders(root)
        self._place = self._waiting / f"{ticket:020d}"
        self._place_fd: int | None = None
        self._slots = slots
        self.slot_fd: int | None = None

    def join(self) -> None:
        """Take its place, which others see only once it is locked."""
        draft = self._place.with_name(f".{self._place.name}")
        self._place_fd = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(self._place_fd, fcntl.LOCK_EX)
        draft.rename(self._place)

    def take_slot(self) -> int | None:
        """Take a slot and return its number; None if others come first or no slot is free."""
        if self._head() != self._place:
            return None
        for slot in range(self._slots):
            fd = os.open(self._slots_dir / str(slot), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            self.slot_fd = fd
            self.leave()
            return slot
        return None

    def leave(self) -> None:
        """Give up its place, and wake the next supervisor."""
        if self._place_fd is not None:
            self._place.unlink(missing_ok=True)
            os.close(self._place_fd)
            self._place_fd = None
            self._wake_head()

    def release(self) -> None:
        """Give up its slot, and wake the next supervisor."""
        if self.slot_fd is not None:
            os.close(self.slot_fd)
            self.slot_fd = None
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
