"""Folders and files for their owner alone, under any umask."""

import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

JOB_UMASK_ENV: Final = "OUMI_FLOWS_JOB_UMASK"
"""Set for the engine's processes, which make files that only their owner can use."""

_OTHERS: Final = 0o077
_UMASK: Final = re.compile("[0-7]{1,4}")


def make_private(folder: Path) -> None:
    """Make a folder and the parents it lacks, all of them for their owner alone.

    `Path.mkdir` does not apply its mode to parents that it makes.

    Raises:
        OSError: It cannot be made.
    """
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def close_files(folder: Path) -> None:
    """Deny other users access to the files of a folder, such as files from an earlier version.

    Raises:
        OSError: The folder cannot be read, or a file is another user's.
    """
    for path in folder.iterdir():
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS:
            path.chmod(0o600)


def open_private(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file to write, unbuffered; for its owner alone if it is new.

    Raises:
        OSError: It cannot be opened.
    """
    return cast("BinaryIO", open(path, mode, buffering=0, opener=_open_private))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def job_umask(environ: Mapping[str, str] = os.environ) -> int | None:
    """The umask for jobs, with which the engine was started; None: this process's own."""
    text = environ.get(JOB_UMASK_ENV, "")
    return int(text, 8) if _UMASK.fullmatch(text) else None


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone; readers see the whole content or none of it.

    If several threads or processes write at once, the last one wins.

    Raises:
        OSError: It cannot be written, such as on a full disk; no part of it is left.
    """
    make_private(path.parent)
    # mkstemp makes the file 0600.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)


def read_or_make(path: Path, *, make: Callable[[], str], accept: Callable[[str], bool]) -> str:
    """Read the one line of a file for its owner alone; make the file at the first call.

    If several processes call at once, one makes the file and all read the same line.

    Args:
        path: The file.
        make: Makes the line.
        accept: Whether a line is valid. An invalid line, such as one cut short by a full disk, is
            replaced.

    Raises:
        OSError: It cannot be read or made.
    """
    make_private(path.parent)
    while True:
        with suppress(FileNotFoundError):
            known = path.read_text(encoding="ascii", errors="replace").strip()
            if accept(known):
                return known
            path.unlink()
        # mkstemp makes the file 0600.
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{make()}\n")
            with suppress(FileExistsError):
                path.hardlink_to(draft)
        finally:
            Path(draft).unlink()


def is_private(path: Path) -> bool:
    """Whether a path is a file of this user's that no other user can read or write.

    Raises:
        FileNotFoundError: There is nothing.
    """
    status = path.lstat()
    is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
    return is_ours and not status.st_mode & _OTHERS
