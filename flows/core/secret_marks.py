"""Secrets of the worker, so that who reads a job's log file can hide them without having them.

A job has the worker's environment, and writes its log itself. The MCP server that reads the log
may have been started with another environment. So each worker leaves a mark of each of its
secrets in the home folder: a keyed digest, and the shape to look for (40 letters). The file is
for its owner alone, and so is the key, which is in it: the digests keep secrets from being read
or found by a search, not from an attack by the account that owns both the jobs and their logs.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from flows.core.models import Value
from flows.core.private_files import make_private, write_private

FILE: Final = "secret-marks.json"
_LOCK: Final = ".secret-marks.lock"
_MOST: Final = 1000
"""Marks kept, the newest: jobs of earlier environments are still read."""
_LONGEST: Final = 512
_RUN: Final = re.compile(r"\w+", re.ASCII)


class Mark(Value):
    """One secret."""

    shape: str = Field(max_length=4000, pattern=r"^(?:\\w\{\d+\}|\\W\{\d+\})+$")
    digest: str


class _File(Value):
    key: str
    marks: list[Mark]


class SecretMarks:
    """The marks of a home folder, read once.

    Args:
        file: What the file says.
    """

    def __init__(self, file: _File) -> None:
        self._key = bytes.fromhex(file.key)
        self._digests = {mark.digest for mark in file.marks}
        shapes = sorted({mark.shape for mark in file.marks})
        # Overlapping matches too: each place of a longer word may be where a secret starts.
        compiled = [(re.compile(f"(?=({shape}))", re.ASCII), r"\W" in shape) for shape in shapes]
        self._words = [pattern for pattern, is_mixed in compiled if not is_mixed]
        self._mixed = [pattern for pattern, is_mixed in compiled if is_mixed]

    def found(self, text: str, long_words: str) -> Iterator[str]:
        """The secrets that stand in a text.

        Args:
            text: The text.
            long_words: Its long words, each once.
        """
        seen: set[str] = set()
        for patterns, where in ((self._words, long_words), (self._mixed, text)):
            for pattern in patterns:
                for match in pattern.finditer(where):
                    word = match[1]
                    if word not in seen and _digest(word, self._key) in self._digests:
                        seen.add(word)
                        yield word


def keep_marks(values: Iterable[str], home: Path) -> None:
    """Leave marks of secrets in a home folder; does nothing if they are there.

    Raises:
        OSError: They cannot be written.
    """
    wanted = [value for value in dict.fromkeys(values) if 0 < len(value) <= _LONGEST]
    if not wanted:
        return
    make_private(home)
    lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = _read(home / FILE) or _File(key=secrets.token_hex(32), marks=[])
        known = {mark.digest for mark in file.marks}
        key = bytes.fromhex(file.key)
        new = [Mark(shape=_shape(value), digest=_digest(value, key)) for value in wanted]
        new = [mark for mark in new if mark.digest not in known]
        if new:
            marks = [*file.marks, *new][-_MOST:]
            text = json.dumps(file.model_copy(update={"marks": marks}).model_dump(mode="json"))
            write_private(home / FILE, text)
    finally:
        os.close(lock)


def read_marks(home: Path) -> SecretMarks | None:
    """The marks in a home folder; None if it has none, or none that can be read."""
    file = _read(home / FILE)
    return SecretMarks(file) if file and file.marks else None


def _read(path: Path) -> _File | None:
    try:
        return _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _shape(value: str) -> str:
    """The runs of letters and others of a value, and how long each is."""
    parts: list[str] = []
    at = 0
    for run in _RUN.finditer(value):
        if run.start() > at:
            parts.append(rf"\W{{{run.start() - at}}}")
        parts.append(rf"\w{{{len(run[0])}}}")
        at = run.end()
    if at < len(value):
        parts.append(rf"\W{{{len(value) - at}}}")
    return "".join(parts)


def _digest(value: str, key: bytes) -> str:
    return hashlib.blake2b(
        value.encode(errors="surrogateescape"), key=key, digest_size=16
    ).hexdigest()
