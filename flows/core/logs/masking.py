"""A log file as its readers may see it: with every secret masked, each byte at its place.

What cuts, searches, seeks and pages a log reads through this, so that none of it meets a secret,
wherever a page or a cursor starts.
"""

from typing import BinaryIO, Final

from flows.core.redaction import Redactor

_REACH: Final = 16 * 1024
"""Bytes on both sides of what is read that are looked at too: a private key of 8,192 bits takes
6,400 in PEM (RFC 7468)."""
_KEY: Final = b"PRIVATE KEY"


class MaskedLog:
    """The part of `BinaryIO` that readers of logs use.

    Args:
        file: The log.
        size: Its size; what is appended later is not read.
        redactor: What to mask.
    """

    def __init__(self, file: BinaryIO, size: int, redactor: Redactor) -> None:
        self._file = file
        self._size = size
        self._redactor = redactor
        self._at = 0

    def seek(self, offset: int) -> int:
        """Read from `offset` on."""
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        start, end = self._at, min(self._at + size, self._size)
        if start >= end:
            return b""
        first, last = max(0, start - _REACH), min(self._size, end + _REACH)
        self._file.seek(first)
        raw = self._file.read(last - first)
        before, rest = raw[: start - first], raw[start - first :]
        if before.endswith(b"\n") and _KEY not in before:
            raw, first = rest, start
        masked = self._redactor.mask(_whole_lines(raw, end - first), is_open=last == self._size)
        self._at = end
        return masked[start - first : end - first]

    def has_newline(self, size: int) -> bool:
        """Whether a line ends in the next `size` bytes, which are not read by this."""
        self._file.seek(self._at)
        return b"\n" in self._file.read(min(size, self._size - self._at))


def _whole_lines(raw: bytes, wanted: int) -> bytes:
    """`raw` to the end of the line that is wanted last; a private key takes several."""
    if _KEY in raw:
        return raw
    newline = raw.find(b"\n", wanted)
    return raw if newline < 0 else raw[:newline]
