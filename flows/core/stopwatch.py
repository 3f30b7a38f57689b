"""Time measured on the monotonic clock, kept across the processes that measure it.

A wall clock may be set while a job runs. The monotonic clock may not, and all processes of one boot
of a machine share it, so one process can continue another's measurement. After a reboot, or on
another machine, only the wall clock is left. Standard library only.
"""

import re
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TEXT: Final = re.compile(r"(\d+) (\d+(?:\.\d+)?)(?: ([\w-]*) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?))?")


class Instant(NamedTuple):
    """A moment on both clocks, in seconds; `boot` identifies the boot of the monotonic one."""

    boot: str
    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        """This moment."""
        return cls(boot_id(), time.monotonic(), time.time())


class Stopwatch(NamedTuple):
    """How long the attempts of a run took, up to and including one attempt.

    Attributes:
        attempt: The attempt it was last started for.
        before: Seconds measured before `since`, or in total if it has stopped.
        since: The moment it was started; None if it has stopped.
    """

    attempt: int
    before: float
    since: Instant | None

    @classmethod
    def parse(cls, text: object) -> "Stopwatch | None":
        """Read the stopwatch from a text that `str` made; None for any other text."""
        match = _TEXT.fullmatch(str(text))
        if match is None:
            return None
        attempt, before, boot, monotonic, wall = match.groups()
        since = Instant(boot, float(monotonic), float(wall)) if monotonic else None
        return cls(int(attempt), float(before), since)

    def __str__(self) -> str:
        """The text to store it as."""
        text = f"{self.attempt} {self.before:.3f}"
        if self.since is None:
            return text
        return f"{text} {self.since.boot} {self.since.monotonic:.3f} {self.since.wall:.3f}"

    def seconds(self, now: Instant) -> float:
        """The seconds measured; by the wall clock after a reboot or on another machine."""
        if self.since is None:
            return self.before
        if self.is_of_boot(now):
            return self.before + max(0.0, now.monotonic - self.since.monotonic)
        return self.before + max(0.0, now.wall - self.since.wall)

    def is_of_boot(self, now: Instant) -> bool:
        """Whether it can be read on the monotonic clock of `now`."""
        return self.since is not None and bool(now.boot) and self.since.boot == now.boot

    def stop(self, now: Instant) -> "Stopwatch":
        """Stop it: the same stopwatch with its time measured."""
        return Stopwatch(self.attempt, self.seconds(now), None)


def start(known: Stopwatch | None, *, attempt: int, now: Instant) -> Stopwatch:
    """Start a stopwatch for an attempt, on top of the time in `known`.

    A stopwatch that already measures this attempt keeps running.
    """
    if known is None:
        return Stopwatch(attempt, 0.0, now)
    if known.attempt == attempt and known.is_of_boot(now):
        return known
    is_same = known.attempt == attempt
    # If the end of an earlier attempt was not observed, the time of its end is unknown.
    before = known.seconds(now) if is_same or known.since is None else known.before
    return Stopwatch(attempt, before, now)


def boot_id() -> str:
    """An identifier of this boot of the machine; empty where the kernel has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
