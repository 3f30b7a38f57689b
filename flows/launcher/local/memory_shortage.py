"""Whether memory ran out while a job ran, by the kernel's own count. Standard library only.

The end of a process by SIGKILL does not show its sender: the kernel, short of memory, or a person.
The kernel counts the processes it ends for lack of memory, for each control group and the machine.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flows.launcher.local.control_group import own_group, read_counters

_MACHINE: Final = Path("/proc/vmstat")
_KEY: Final = "oom_kill"
_OOMD: Final = "user.oomd_kill"
"""The attribute in which systemd-oomd counts what it ended in a group (systemd 248)."""
_LOOK_SECONDS: Final = 10.0


class MemoryShortage:
    """The processes that the kernel ended for lack of memory, for the supervisor of one job.

    Args:
        group: The job's own control group, if it has one.
        shared: Files that count for more than this job; the first that can be read is used.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        group: Path | None,
        *,
        shared: list[Path] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        files = _shared() if shared is None else shared
        self._shared = next((file for file in files if _count(file) is not None), None)
        self._clock = clock
        self._before = self._latest = self._shared_count()
        self._looked_at = clock()

    def look(self) -> None:
        """Read the shared count from time to time, so that an old rise does not look new."""
        now = self._clock()
        if now >= self._looked_at + _LOOK_SECONDS:
            self._before, self._latest = self._latest, self._shared_count()
            self._looked_at = now

    def hit_the_job(self) -> bool:
        """Whether a process of the job itself was ended for lack of memory, at any time."""
        if self._group is None:
            return False
        return bool(_count(self._group / "memory.events")) or _oomd_kills(self._group) > 0

    def explains_a_kill(self) -> bool:
        """Whether the kernel's counts explain a SIGKILL of this moment by lack of memory."""
        if self.hit_the_job():
            return True
        if self._group is not None and _count(self._group / "memory.events") is not None:
            return False  # the job's own count is exact: other counts do not matter
        return self._shared_count() > self._before

    def _shared_count(self) -> int:
        return (_count(self._shared) if self._shared else None) or 0


def _shared() -> list[Path]:
    """The kernel's counts for this process's own group, of either version, and the machine."""
    version_2, version_1 = own_group(), own_group("memory")
    files = [version_2 / "memory.events"] if version_2 else []
    files += [version_1 / "memory.oom_control"] if version_1 else []
    return [*files, _MACHINE]


def _count(file: Path) -> int | None:
    """The kernel's count in `file`; None where it has none."""
    try:
        return read_counters(file.read_text()).get(_KEY)
    except OSError:
        return None


def _oomd_kills(group: Path) -> int:
    try:
        return int(os.getxattr(group, _OOMD))
    except (OSError, ValueError):
        return 0
