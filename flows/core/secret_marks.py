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
from itertools import chain
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from flows.core.models import Value
from flows.core.private_files import make_private, write_private
from flows.core.secret_shapes import as_bytes

FILE: Final = "secret-marks.json"
_LOCK: Final = ".secret-marks.lock"
_MOST: Final = 1000
"""Marks kept, the newest: jobs of earlier environments are still read."""
_LONGEST: Final = 512
_RUN: Final = re.compile(r"\w+", re.ASCII)
_PART: Final = re.compile(r"\\([wW])\{(\d+)\}")
_SAME: Final = re.compile(rf"(\w)\1{{{_LONGEST - 1},}}", re.ASCII)
"""More of one letter than a secret has: as many as it has show the same places to look at."""
_LETTER: Final = b"w"
_OTHER: Final = b"W"
_LINE_END: Final = b"\n"
_CLASS_OF: Final = b"".join(
    _LINE_END if chr(code) in "\r\n" else _LETTER if _RUN.match(chr(code)) else _OTHER
    for code in range(256)
)
"""The class of each byte; to find a row of classes is far cheaper than to match an expression."""


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
        shapes = {_classes(mark.shape) for mark in file.marks} - {b""}
        self._lengths = sorted(len(shape) for shape in shapes if _OTHER not in shape)
        self._mixed = sorted(shape for shape in shapes if _OTHER in shape)

    def found(self, text: str, long_words: str) -> Iterator[str]:
        """The secrets that stand in a text.

        Each place of a longer word may be where a secret starts.

        Args:
            text: The text.
            long_words: Its long words, each once.
        """
        seen: set[str] = set()
        for word in chain(self._in_words(long_words), self._in_text(text)):
            if word not in seen and _digest(word, self._key) in self._digests:
                seen.add(word)
                yield word

    def _in_words(self, long_words: str) -> Iterator[str]:
        """What has the shape of a secret of letters only, at each place."""
        if not self._lengths:
            return
        for run in set(_RUN.findall(long_words)):
            short = _SAME.sub(r"\1" * _LONGEST, run) if len(run) > _LONGEST else run
            for length in self._lengths:
                places = range(len(short) - length + 1)
                yield from {short[at : at + length] for at in places}

    def _in_text(self, text: str) -> Iterator[str]:
        """What has the shape of any other secret, at each place."""
        if not self._mixed:
            return
        classes = text.encode("ascii", "replace").translate(_CLASS_OF)
        # The lines of a log, and the states of a bar, are of few shapes.
        lines = _LINE_END.join(set(classes.split(_LINE_END)))
        for shape in self._mixed:
            if shape not in lines:
                continue
            yield from {text[at : at + len(shape)] for at in _places(shape, classes)}


def keep_marks(values: Iterable[str], home: Path) -> None:
    """Leave marks of secrets in a home folder; does nothing if they are there.

    Args:
        values: The secrets, each of one line, as `ways_of_writing` splits them.
        home: The folder.

    Raises:
        OSError: They cannot be written.
    """
    wanted = _as_masked(values)
    if not wanted:
        return
    make_private(home)
    lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _add(wanted, home / FILE)
    finally:
        os.close(lock)


def _as_masked(values: Iterable[str]) -> list[str]:
    """The secrets as text and as logs are masked: as bytes, each read as one character."""
    ways = (way for value in values for way in (value, as_bytes(value).decode("latin-1")))
    return [way for way in dict.fromkeys(ways) if 0 < len(way) <= _LONGEST]


def _add(values: Iterable[str], path: Path) -> None:
    """Add the marks that are not in the file yet."""
    file = _read(path) or _File(key=secrets.token_hex(32), marks=[])
    known = {mark.digest for mark in file.marks}
    key = bytes.fromhex(file.key)
    new = [Mark(shape=_shape(value), digest=_digest(value, key)) for value in values]
    new = [mark for mark in new if mark.digest not in known]
    if new:
        marks = [*file.marks, *new][-_MOST:]
        text = json.dumps(file.model_copy(update={"marks": marks}).model_dump(mode="json"))
        write_private(path, text)


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


def _classes(shape: str) -> bytes:
    """The class of each character of a shape; nothing for one that no mark is made of."""
    parts = [(kind.encode(), int(length)) for kind, length in _PART.findall(shape)]
    if sum(length for _, length in parts) > _LONGEST:
        return b""
    return b"".join(kind * length for kind, length in parts)


def _places(part: bytes, whole: bytes) -> Iterator[int]:
    at = whole.find(part)
    while at >= 0:
        yield at
        at = whole.find(part, at + 1)


def _digest(value: str, key: bytes) -> str:
    return hashlib.blake2b(
        value.encode(errors="surrogatepass"), key=key, digest_size=16
    ).hexdigest()
