"""Identify processes by more than their pid: start, working folder and ports."""

import os
import socket
import sys
from pathlib import Path
from typing import Final

from flows.core.models import Value
from flows.core.stopwatch import boot_id

_PROC: Final = Path("/proc")
_THREADS_FIELD: Final = 17
_START_TICKS_FIELD: Final = 19
"""Counted from the one after the state (proc_pid_stat(5))."""
_LISTENS: Final = "0A"
"""The state of a listening socket in /proc/net/tcp (proc_pid_net(5))."""
_DELETED: Final = " (deleted)"
"""What Linux appends to the link of a folder that is gone (proc_pid_cwd(5))."""


class ProcessRecord(Value):
    """A process we started; a later process with the same pid does not match."""

    pid: int
    identity: str
    log_offset: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether this same process is alive."""
        return identity_of(self.pid) == self.identity

    def works_in(self, folder: Path) -> bool:
        """Whether this same process is alive and has `folder` as its working directory."""
        return self.is_alive and works_in(self.pid, folder)

    def holds(self, host: str, port: int) -> bool:
        """Whether this same process is alive and listens on an IPv4 address and port."""
        return self.is_alive and _listens_on(self.pid, host, port)


def identity_of(pid: int) -> str | None:
    """A text that identifies the live process `pid`; None if there is no such process.

    On Linux it holds the start in ticks since boot, which no clock change affects. A killed
    process is a zombie as soon as its first thread ends. While other threads end, it still holds
    its files and ports, so it counts as alive.
    """
    if sys.platform != "linux":
        return _psutil_identity(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name in parentheses may itself hold spaces and parentheses.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    if state in b"ZX" and int(fields[_THREADS_FIELD - 1]) <= 1:
        return None
    return f"{boot_id()}:{int(fields[_START_TICKS_FIELD - 1])}"


def works_in(pid: int, folder: Path) -> bool:
    """Whether the process's working directory is `folder`, under any name.

    A copy of the folder does not match, nor does a folder of the same path in a container. A
    folder that was removed or replaced still matches by its path.
    """
    if sys.platform != "linux":
        return _psutil_works_in(pid, folder)
    process = _PROC / str(pid)
    try:
        if (process / "cwd").samefile(folder):
            return True
    except FileNotFoundError:
        pass
    except OSError:  # another user's
        return False
    try:
        is_same_root = (process / "root").samefile("/")
        return is_same_root and str((process / "cwd").readlink()) == f"{folder}{_DELETED}"
    except OSError:
        return False


def _listens_on(pid: int, host: str, port: int) -> bool:
    if sys.platform != "linux":
        return _psutil_listens_on(pid, host, port)
    inode = _listening_inode(host, port)
    return inode is not None and _has_descriptor(pid, f"socket:[{inode}]")


def _listening_inode(host: str, port: int) -> str | None:
    """The inode of the socket that listens on an address, from the kernel's table."""
    number = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    wanted = f"{number:08X}:{port:04X}"
    try:
        with (_PROC / "net/tcp").open(encoding="ascii") as table:
            next(table)
            for line in table:
                fields = line.split()
                # Listening sockets come first.
                if fields[3] != _LISTENS:
                    return None
                if fields[1] == wanted:
                    return fields[9]
    except (OSError, StopIteration):
        pass
    return None


def _has_descriptor(pid: int, target: str) -> bool:
    folder = _PROC / str(pid) / "fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - a tenth of the time of iterdir
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") == target:  # noqa: PTH115
                return True
        except OSError:  # closed meanwhile
            continue
    return False


def _psutil_identity(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return None if zombie else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _psutil_works_in(pid: int, folder: Path) -> bool:
    import psutil

    try:
        place = Path(psutil.Process(pid).cwd())
        return place.samefile(folder) if place.exists() else place == folder
    except (psutil.Error, OSError):
        return False


def _psutil_listens_on(pid: int, host: str, port: int) -> bool:
    import psutil

    try:
        found = psutil.Process(pid).net_connections("tcp4")
    except psutil.Error:
        return False
    return any(
        connection.status == psutil.CONN_LISTEN and connection.laddr == (host, port)
        for connection in found
    )
