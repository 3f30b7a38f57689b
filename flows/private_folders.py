"""Folders that their owner alone can look into."""

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
