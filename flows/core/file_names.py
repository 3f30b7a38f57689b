"""Check file names that a person or a config gives, valid or not.

`pathlib` raises for some (3.11): a name that is too long, one below a folder that may not be
entered, ``~name`` for an unknown user. The functions here report such files as missing.
"""

import os
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether there is a file or folder of this name."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def is_file(path: Path) -> bool:
    """Whether this is a regular file."""
    return os.path.isfile(path)  # noqa: PTH113 - see above


def is_folder(path: Path) -> bool:
    """Whether this is a folder."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def expand_home(path: str | Path) -> Path:
    """The path with the home folder for ``~``; the same path if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
