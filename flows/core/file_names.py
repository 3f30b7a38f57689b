"""Looks at names that a person or a config gives for files, whatever the names are.

`pathlib` raises for some (3.11): a name that is too long, one below a folder that may not be
entered, ``~someone`` for an unknown person. To the looks here there is no file of such a name.
"""

import os
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether there is anything of this name."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def is_file(path: Path) -> bool:
    """Whether this is a regular file."""
    return os.path.isfile(path)  # noqa: PTH113 - see above


def is_folder(path: Path) -> bool:
    """Whether this is a folder."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def expand_home(path: str | Path) -> Path:
    """The path with the home folder for ``~``; the same path where there is no such person."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
