"""Where collected files go, and what is there already. Blocking."""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from flows.core.errors import Conflict, InvalidArgument
from flows.core.results.choosing import ChosenFile

_CHUNK: Final = 2**22


def final_path(folder: Path, file: ChosenFile) -> Path:
    """Where a file goes.

    Args:
        folder: The target, without links in its path.
        file: The file.

    Raises:
        InvalidArgument: A link leads out of the folder.
    """
    path = folder / file.target
    parent = Path(os.path.realpath(path.parent))
    if not parent.is_relative_to(folder) or ".." in path.parts:
        raise InvalidArgument(f"{path} leads out of {folder}", "Collect into an empty folder")
    return path


def checksum(path: Path, go_on: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 of a file.

    Args:
        path: The file.
        go_on: Called between parts of it; may raise to end the read.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            go_on()
            digest.update(chunk)
    return digest.hexdigest()


def conflict(path: Path, file: ChosenFile) -> Conflict:
    """Make the error for a file that is there with another content."""
    return Conflict(
        f"{path} exists and differs from {file.path} of the job; it was not overwritten",
        "Move it away, or collect into another folder",
    )


def refuse_other_sizes(folder: Path, files: Iterable[ChosenFile]) -> None:
    """Refuse files that are in the target with another size.

    Raises:
        Conflict: One is.
        InvalidArgument: A link leads out of the folder.
    """
    for file in files:
        path = final_path(folder, file)
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
            raise conflict(path, file)


def refuse_other_contents(folder: Path, files: Iterable[ChosenFile], *, limit: int) -> None:
    """Refuse files of this machine that are in the target with another content.

    Args:
        folder: The target.
        files: The files.
        limit: Bytes that are compared at most.

    Raises:
        Conflict: One differs.
    """
    for file in files:
        path = final_path(folder, file)
        limit -= file.size
        if limit < 0:
            return
        with suppress(OSError):
            if path.is_file() and checksum(path) != checksum(Path(file.path)):
                raise conflict(path, file)
