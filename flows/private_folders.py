"""Folders that their owner alone can look into, and whole files in them."""

import os
import tempfile
from pathlib import Path


def make_private(folder: Path) -> None:
    """Make a folder and the parents it lacks, all of them for their owner alone.

    Of the parents that `Path.mkdir` makes itself, none gets the mode it is given.

    Raises:
        OSError: It cannot be made.
    """
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone; whoever reads it finds all of it or none.

    Of several writers at once, in whatever thread or process, one is the last.

    Raises:
        OSError: It cannot be written, such as on a full disk; nothing is left of it.
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
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
