"""Whether a forked process would be exactly what a new one would be. Standard library only."""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from flows.launcher.local.warm.imports import Imports
from flows.launcher.local.warm.request import CommandRequest

THREADS_ENV: Final = "OMP_NUM_THREADS"
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_IDENTITY: Final = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")
"""Lines of /proc/PID/status (proc(5)) that a program inherits and a process cannot regain."""


def why_cold(
    request: CommandRequest, *, program: Path, imports: Imports, held: Collection[int], peer: int
) -> str:
    """Say why a command must run as a new process; empty if it can be forked.

    Args:
        request: The command.
        program: The `oumi` whose modules this process has.
        imports: What it has imported.
        held: Descriptors that the imported modules keep open.
        peer: Pid of the process that asks.
    """
    name = imports.difference(request.env) or _difference_of_threads(request.env)
    taken = sorted({*held}.intersection(request.files))
    faults = (
        (not _is_same_file(request.program, program), f"{request.program} is another program"),
        (name, f"{name} is set otherwise"),
        (not _is_same_identity(peer), "the command has another user or namespace"),
        (not {0, 1, 2}.issubset(request.files), "it has no input, output or error output"),
        (taken, f"descriptor {taken[:1]} is taken"),
        (_has_gpu(held), "a GPU is in use in the warm host"),
    )
    why = next((text for is_so, text in faults if is_so), "")
    path = None if why else imports.changed_file()
    return f"{path} has changed" if path else why


def _difference_of_threads(environment: Mapping[str, str]) -> str:
    """The variable of the number of threads, if it differs and cannot be set after the imports."""
    threads = environment.get(THREADS_ENV)
    differs = threads != os.environ.get(THREADS_ENV) and not (threads or "").isdigit()
    return THREADS_ENV if differs else ""


def own_files() -> list[int]:
    """The open descriptors of this process above those of input, output and error."""
    found = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sorted(number for number in found if number > 2 and _is_open(number))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # the listing's own
        return False
    return True


def _is_same_file(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


def _is_same_identity(peer: int) -> bool:
    try:
        return _identity("self") == _identity(str(peer))
    except OSError:
        return False


def _identity(pid: str) -> tuple[object, ...]:
    folder = Path("/proc", pid)
    lines = (folder / "status").read_text().splitlines()
    kept = [line for line in lines if line.partition(":")[0] in _IDENTITY]
    spaces = [os.readlink(folder / "ns" / name) for name in _NAMESPACES]  # noqa: PTH115
    root = os.stat(folder / "root")  # noqa: PTH116
    return (kept, spaces, root.st_dev, root.st_ino)


def _has_gpu(held: Collection[int]) -> bool:
    """Whether the imports have used a GPU: a process that is forked from here could not."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    links = (f"/proc/self/fd/{number}" for number in held)
    return any(_target(link).startswith(("/dev/nvidia", "/dev/kfd")) for link in links)


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return ""
