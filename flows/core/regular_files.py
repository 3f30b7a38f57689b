"""Opens files that a person, a config or a repository names: regular files only, up to a limit.

A pipe or a terminal can block a reader for ever, and a device such as ``/dev/zero`` has no end.
Files below ``/proc`` and ``/sys`` look regular and may do either.
"""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Final, cast

import pydantic_core

JSON_BYTES: Final = 64_000_000
"""The indexes of the largest models' weights are some 10 MB."""
_KERNEL_FOLDERS: Final = ("/proc/", "/sys/")


class NotRegular(OSError):
    """The path is not a regular file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.EINVAL, "It is not a regular file", os.fspath(path))


class TooLarge(OSError):
    """A file is larger than the limit."""

    def __init__(self, path: str | os.PathLike[str], limit: int) -> None:
        super().__init__(errno.EFBIG, f"It is larger than {limit:,} bytes", os.fspath(path))


def open_regular_file(
    path: str | os.PathLike[str], *, follow_link: bool = True
) -> io.BufferedReader:
    """Open a regular file for reading, without blocking.

    Args:
        path: The file.
        follow_link: Whether it may be a symbolic link.

    Raises:
        OSError: It is not a regular file, or cannot be opened.
        ValueError: The path has a null character.
    """
    _check_regular(Path(path).stat(follow_symlinks=follow_link), path)
    if os.path.realpath(path).startswith(_KERNEL_FOLDERS):
        raise NotRegular(path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow_link else flags | os.O_NOFOLLOW)
    try:
        # The first check keeps us from opening a device; the file may have been replaced since.
        _check_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_regular_file(
    path: str | os.PathLike[str], *, limit: int, follow_link: bool = True
) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        OSError: It is larger, not a regular file, or cannot be read.
        ValueError: The path has a null character.
    """
    with open_regular_file(path, follow_link=follow_link) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(path, limit)
    return content


def read_json(path: str | os.PathLike[str], *, limit: int = JSON_BYTES) -> object:
    """Read the value of a JSON file.

    Raises:
        OSError: It is larger than `limit`, not a regular file, or cannot be read.
        ValueError: It is not JSON, or nests too deeply.
    """
    return cast(object, pydantic_core.from_json(read_regular_file(path, limit=limit)))


def _check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(path)
