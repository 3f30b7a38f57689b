"""Time measured on the monotonic clock, kept across the processes that measure it.

A wall clock may be set while a job runs. The monotonic clock may not, and all processes of one boot
of a machine share it: what one began, another reads on. Only over a reboot, or between machines, is
the wall clock all there is. Standard library only.
"""

import re
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TEXT: Final = re.compile(r"(\d+) (\d+(?:\.\d+)?)(?: ([\w-]*) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?))?")


class Instant(NamedTuple):
    """A moment on both clocks, in seconds; `boot` says which boot the monotonic one counts from."""

    boot: str
    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        """This moment."""
        return cls(boot_id(), time.monotonic(), time.time())


class Stopwatch(NamedTuple):
    """How long the attempts of a run took, up to and with one attempt.

    Attributes:
        attempt: The attempt it was started for last.
        before: Seconds measured until `since`, or in all if it has stopped.
        since: From when on it measures; None: it has stopped.
    """

    attempt: int
    before: float
    since: Instant | None

    @classmethod
    def parse(cls, text: object) -> "Stopwatch | None":
        """The stopwatch of a text that `str` made; None for anything else."""
        match = _TEXT.fullmatch(str(text))
        if match is None:
            return None
        attempt, before, boot, monotonic, wall = match.groups()
        since = Instant(boot, float(monotonic), float(wall)) if monotonic else None
        return cls(int(attempt), float(before), since)

    def __str__(self) -> str:
        """The text to keep it as."""
        text = f"{self.attempt} {self.before:.3f}"
        if self.since is None:
            return text
        return f"{text} {self.since.boot} {self.since.monotonic:.3f} {self.since.wall:.3f}"

    def seconds(self, now: Instant) -> float:
        """The seconds measured; over a reboot, or on another machine, by the wall clock."""
        if self.since is None:
            return self.before
        if self.is_of_boot(now):
            return self.before + max(0.0, now.monotonic - self.since.monotonic)
        return self.before + max(0.0, now.wall - self.since.wall)

    def is_of_boot(self, now: Instant) -> bool:
        """Whether it can be read on the monotonic clock of `now`."""
        return self.since is not None and bool(now.boot) and self.since.boot == now.boot

    def stop(self, now: Instant) -> "Stopwatch":
        """The same, with nothing more to measure."""
        return Stopwatch(self.attempt, self.seconds(now), None)


def start(known: Stopwatch | None, *, attempt: int, now: Instant) -> Stopwatch:
    """A stopwatch that measures an attempt, on top of what `known` has measured before.

    One that measures this attempt already goes on.
    """
    if known is None:
        return Stopwatch(attempt, 0.0, now)
    if known.attempt == attempt and known.is_of_boot(now):
        return known
    is_same = known.attempt == attempt
    # An earlier attempt that was never seen to end ended at a time that nothing tells.
    before = known.seconds(now) if is_same or known.since is None else known.before
    return Stopwatch(attempt, before, now)


def boot_id() -> str:
    """An identifier of this boot of the machine; empty where the kernel has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
