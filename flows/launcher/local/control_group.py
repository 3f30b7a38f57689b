"""A control group (cgroup v2) that holds the processes of one local job. Standard library only.

A process stays in its group whatever it does to its session, environment, descriptors or parents,
so the group holds exactly what is left of a job, and the kernel ends all of it at once. Neither
needs a controller. A group is created below the one of this process, where that is writable:
for root, or a user in a delegated unit (cgroups(7), kernel 5.2 for ``cgroup.freeze``, 5.14 for
``cgroup.kill``).
"""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_KILL_ROUNDS: Final = 4


class ControlGroup:
    """One group; after its removal it has no processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, name: str) -> "ControlGroup | None":
        """Create a group below this process's own; None where this process may not."""
        parent = own_group()
        if parent is None:
            return None
        group = cls(parent / name)
        try:
            group.path.mkdir(exist_ok=True)
        except OSError:
            return None
        return group

    def add(self, pid: int) -> bool:
        """Put a process, and all that it starts, into the group; False if that failed."""
        try:
            self._write("cgroup.procs", str(pid))
        except OSError:
            return False
        return True

    def is_populated(self) -> bool:
        """Whether a live process is in the group or in one below it."""
        return "populated 1" in self._read("cgroup.events").splitlines()

    def pids(self) -> set[int]:
        """The live processes in the group and in those below it."""
        found: set[int] = set()
        for folder in self._folders():
            with suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found - {0}  # 0: a process of another pid namespace

    def freeze(self) -> bool:
        """Stop every process of the group where it is; False if that failed."""
        return self._set_frozen("1")

    def thaw(self) -> bool:
        """Let the processes of a frozen group run again; False if that failed."""
        return self._set_frozen("0")

    def is_freezing(self) -> bool:
        """Whether the group is frozen, or its last processes are about to stop."""
        return self._read("cgroup.freeze").strip() == "1"

    def is_frozen(self) -> bool:
        """Whether all processes of the group have stopped since it was frozen."""
        return "frozen 1" in self._read("cgroup.events").splitlines()

    def kill(self) -> None:
        """End every process of the group by SIGKILL."""
        with suppress(OSError):
            return self._write("cgroup.kill", "1")
        # A kernel before 5.14 has no such file: repeat, for processes started in the meantime.
        for _ in range(_KILL_ROUNDS):
            for pid in self.pids():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        return None

    def cpu_seconds(self) -> float | None:
        """CPU time used in the group so far; None where the kernel does not report it."""
        used = read_counters(self._read("cpu.stat")).get("usage_usec")
        return None if used is None else used / 1e6

    def remove(self) -> None:
        """Remove the group and the groups that a job created below it; one with processes stays."""
        for folder in reversed(self._folders()):
            with suppress(OSError):
                folder.rmdir()

    def _set_frozen(self, text: str) -> bool:
        try:
            self._write("cgroup.freeze", text)
        except OSError:
            return False
        return True

    def _folders(self) -> list[Path]:
        """The group's folder and those below it, each after the one that holds it."""
        return [Path(folder) for folder, _, _ in os.walk(self.path)]

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except OSError:
            return ""

    def _write(self, name: str, text: str) -> None:
        # Creates no file: a file system of another kind has nothing to write to.
        fd = os.open(self.path / name, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def own_group(controller: str = "") -> Path | None:
    """Find the folder of this process's own group; None where this process cannot see it.

    Args:
        controller: Of the hierarchy of version 1 that has this controller; else of version 2.
    """
    try:
        membership = _MEMBERSHIP.read_text().splitlines()
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return None
    groups = (line.split(":", 2) for line in membership)
    path = next((Path(path) for _, has, path in groups if controller in has.split(",")), None)
    if path is None or ".." in path.parts:
        return None  # outside this namespace
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        if _is_mount_of(controller, kind):
            root, mount_point = map(_unescape, fields.split(" ")[3:5])
            if path.is_relative_to(root):
                return Path(mount_point) / path.relative_to(root)
    return None


def read_counters(text: str) -> dict[str, int]:
    """The numbers of a file that has a name and a value in each line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _is_mount_of(controller: str, kind: str) -> bool:
    """Whether a mount's type, source and options are those of the hierarchy looked for."""
    file_system, _, options = kind.split(" ", 2)
    if controller:
        return file_system == "cgroup" and controller in options.split(",")
    return file_system == "cgroup2"


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
