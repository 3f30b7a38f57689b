"""Writes the training record: the numbers that a training logs, and what happens in it.

A record is a folder with one folder per segment, which is one process of one attempt. The names of
segments sort by the time they began. A segment holds:

================  =========================================================================
``events.jsonl``  one JSON object per line: ``kind``, ``at`` (Unix time in seconds), facts
``NAME.rows``     the values of one metric: rows of 24 bytes (step: int64, Unix time in
                  seconds: float64, value: float64; little-endian); NAME is URL-quoted
================  =========================================================================

Everything is appended, so a killed process loses at most a part of its last row, which readers
ignore. Values that are not finite are values like others.

Standard library only, and no other module of oumi-flows: the progress hook loads this file into
training processes by its path.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

ROW: Final = struct.Struct("<qdd")
EVENTS: Final = "events.jsonl"
SUFFIX: Final = ".rows"
LOG_SEGMENT: Final = "log"
"""Name of the segment with the numbers that were read from a log."""
ROWS_MAX: Final = 2**20
"""Rows of a metric (24 MiB). A full file is thinned to half: of 4 rows the extremes stay."""
KEYS_MAX: Final = 200
_NAME_BYTES: Final = 200
_EVENTS_BYTES: Final = 2**22
"""Size at which no more events are written, except the end."""
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Recorder:
    """Appends to a segment of its own. Every method may raise `OSError`, and may be called again.

    Args:
        folder: The folder of the record.
        name: Name of the segment; empty: a new one that sorts behind all earlier ones.
        rows_max: Rows of a metric at which its file is thinned.
    """

    def __init__(self, folder: Path, name: str = "", *, rows_max: int = ROWS_MAX) -> None:
        self.segment = folder / (name or f"{time.time_ns():020d}-{os.getpid()}")
        self._rows_max = rows_max
        self._files: dict[str, _Rows] = {}

    def log(self, step: int, values: Mapping[str, float], *, at: float | None = None) -> None:
        """Append the values of one step, by the name of their metric.

        Args:
            step: The training step.
            values: Numbers, which may be not finite.
            at: Unix time in seconds; None: now.
        """
        at = time.time() if at is None else at
        for name, value in values.items():
            file = self._file(name)
            if file is not None:
                file.append(step, at, float(value))

    def note(self, kind: str, facts: Mapping[str, object], *, at: float | None = None) -> None:
        """Append an event.

        Args:
            kind: What happened, such as ``begin`` or ``save``.
            facts: More about it, as JSON can hold it.
            at: Unix time in seconds; None: now.
        """
        event = {**facts, "kind": kind, "at": time.time() if at is None else at}
        line = json.dumps(event, default=str).encode() + b"\n"
        self._make_folder()
        fd = os.open(self.segment / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if kind == "end" or os.fstat(fd).st_size < _EVENTS_BYTES:
                os.write(fd, line)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the files; the next value opens them again."""
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, name: str) -> _Rows | None:
        file = self._files.get(name)
        if file is None and len(self._files) < KEYS_MAX:
            path = self.segment / file_name(name)
            if not name or len(path.name) > _NAME_BYTES:
                return None
            self._make_folder()
            file = self._files[name] = _Rows(path, self._rows_max)
        return file

    def _make_folder(self) -> None:
        # The mode of `mkdir` is not that of the parents it makes.
        self.segment.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.segment.mkdir(mode=0o700, exist_ok=True)


def record_folder(log_path: Path) -> Path:
    """Return the folder of the record of the attempt that writes a log."""
    return log_path.with_suffix(".record")


def file_name(name: str) -> str:
    """Return the name of the file with the values of a metric."""
    return quote(name, safe=" ").replace(".", "%2E") + SUFFIX


class _Rows:
    """The file of one metric."""

    def __init__(self, path: Path, rows_max: int) -> None:
        self._path = path
        self._rows_max = rows_max
        self._fd = os.open(path, _FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size // ROW.size

    def append(self, step: int, at: float, value: float) -> None:
        """Append a row, over what is left of one that was not written whole."""
        if self._size >= self._rows_max:
            self._thin()
        row = ROW.pack(step, at, value)
        if os.pwrite(self._fd, row, self._size * ROW.size) == len(row):
            self._size += 1

    def close(self) -> None:
        os.close(self._fd)

    def _thin(self) -> None:
        rows = list(ROW.iter_unpack(os.pread(self._fd, self._size * ROW.size, 0)))
        kept = [rows[0], *_extremes(rows[1:-1]), rows[-1]]
        draft = self._path.with_suffix(".draft")
        fd = os.open(draft, _FLAGS | os.O_TRUNC, 0o600)
        try:
            os.write(fd, b"".join(ROW.pack(*row) for row in kept))
            draft.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, len(kept)


def _extremes(rows: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Of each 4 rows, the one with the least and the one with the greatest value, in order."""
    kept: list[tuple[int, float, float]] = []
    for first in range(0, len(rows), 4):
        four = list(enumerate(rows[first : first + 4]))
        # NaN counts as the greatest: it must stay to be seen.
        least = min(four, key=lambda one: (math.isnan(one[1][2]), one[1][2]))
        most = max(four, key=lambda one: (math.isnan(one[1][2]), one[1][2]))
        kept += [row for _, row in sorted({least[0]: least, most[0]: most}.values())]
    return kept
