"""Processes as the kernel reports them: identity, descent, locks. Standard library only."""

import fcntl
import os
import struct
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
# struct flock of fcntl(2): type, whence, start, length, pid; macOS has another order.
_FLOCK: Final = "qqihh" if sys.platform == "darwin" else "hhqqi4x"


class Process(NamedTuple):
    """One row of the process table.

    Attributes:
        start: In clock ticks since boot.
        is_stopped: Whether it runs no code of its own: it is stopped, or waits in the kernel and
            stops before it leaves it, such as the parent of a process that was stopped in vfork.
    """

    pid: int
    ppid: int
    session: int
    start: int
    is_zombie: bool
    is_stopped: bool = False


def read_process(pid: int) -> Process | None:
    """The process `pid`; None if there is none, or no /proc."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name in parentheses may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    state = fields[0]
    return Process(
        pid, int(fields[1]), int(fields[3]), int(fields[19]), state in b"ZX", state in b"TtD"
    )


def process_table() -> dict[int, Process]:
    """Every process by pid; empty where there is no /proc."""
    if not _PROC.is_dir():
        return {}
    pids = (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208
    return {process.pid: process for process in map(read_process, pids) if process}


def job_processes(
    mark: str, *, root: int | None = None, leader: int, leader_start: int
) -> list[int]:
    """The live processes of a job.

    Args:
        mark: The ``NAME=value`` every process of the job has in its environment.
        root: A process whose descendants all belong to the job, if one lives.
        leader: Pid of the job's session leader, which may not lead a session yet.
        leader_start: Its start time, which identifies a reused pid.
    """
    table = process_table()
    now_leader = table.get(leader)
    session = leader if now_leader is None or now_leader.start == leader_start else None
    ours = _descendants(table, root)
    return [
        pid
        for pid, process in table.items()
        if not process.is_zombie
        and pid != os.getpid()
        and (pid in ours or session in (pid, process.session) or _has_mark(pid, os.fsencode(mark)))
    ]


def _descendants(table: dict[int, Process], root: int | None) -> set[int]:
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.ppid, []).append(process.pid)
    found: set[int] = set()
    unseen = [] if root is None else list(children.get(root, []))
    while unseen:
        pid = unseen.pop()
        if pid not in found:
            found.add(pid)
            unseen.extend(children.get(pid, []))
    return found


def _has_mark(pid: int, mark: bytes) -> bool:
    try:
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # it has ended, or belongs to another user
        return False
    return mark in environ.split(b"\0")


@contextmanager
def open_descriptor(path: Path, flags: int) -> Generator[int]:
    """Open a descriptor of `path`; only the owner can read a file that this creates."""
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def lock_holder(path: Path) -> int | None:
    """Pid of the process that holds a POSIX lock on `path`; None without one.

    The query takes no lock, so it never disturbs a process that is about to take it. The lock ends
    with the process that took it, so the answer also shows whether that process is alive. It is 0
    for a holder in another pid namespace.
    """
    darwin = sys.platform == "darwin"
    ask = (0, 0, 0, fcntl.F_WRLCK, 0) if darwin else (fcntl.F_WRLCK, 0, 0, 0, 0)
    try:
        with open_descriptor(path, os.O_RDONLY) as fd:
            answer = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(_FLOCK, *ask))
    except FileNotFoundError:
        return None
    fields = struct.unpack(_FLOCK, answer)
    kind, pid = (fields[3], fields[2]) if darwin else (fields[0], fields[4])
    return None if kind == fcntl.F_UNLCK else max(pid, 0)
