"""A log file that is still being written, read as one stream to its job's end."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

_LOOK_SECONDS: Final = 0.1


class _Buffer(Protocol):
    def __buffer__(self, flags: int, /) -> memoryview: ...


def followed_log(path: Path, *, is_live: Callable[[], bool]) -> io.TextIOBase:
    """Open the text of the log at `path`; reads wait for more while `is_live`.

    Bytes that are not UTF-8 are replaced. Lines end at a newline; carriage returns are kept.
    """
    raw = _FollowedFile(path, is_live=is_live)
    return io.TextIOWrapper(
        io.BufferedReader(raw), encoding="utf-8", errors="replace", newline="\n"
    )


class _FollowedFile(io.RawIOBase):
    def __init__(self, path: Path, *, is_live: Callable[[], bool]) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._is_live = is_live

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: _Buffer, /) -> int:
        while True:
            # Checked before reading, so that no output from before the end is missed.
            live = self._is_live()
            count = self._file.readinto(buffer) or 0
            if count or not live:
                return count
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        self._file.close()
        super().close()
