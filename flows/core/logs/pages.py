"""Pages of a job's log file: its tail, or what follows a cursor. Nothing twice, nothing missed."""

import base64
import binascii
import io
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pydantic import Field

from flows.core.errors import InvalidArgument
from flows.core.logs.lines import (
    LINE_BYTES,
    MARKER_BYTES,
    EndOfLine,
    Piece,
    backward,
    forward,
    last_state,
    text_of,
    whole,
)
from flows.core.logs.masking import MaskedLog
from flows.core.logs.search import LogSearch
from flows.core.models import Value
from flows.core.redaction import Redactor

MAX_BYTES: Final = 12_000
_ERROR_TAIL_BYTES: Final = 4_000
_SCAN_BYTES: Final = 8 * 2**20
_SEARCH_BYTES: Final = 32 * 2**20

_T = TypeVar("_T")
_CURSOR = re.compile(r"([1-9]\d{0,8}):(\d{1,18})(:launch)?", re.ASCII)
_ERROR = re.compile(
    r"(?:\[rank\d+\]: ?)?"
    r"(?P<error>(?:(?:\w+\.)*[A-Za-z]\w*(?:Error|Exception)|Error)(?P<message>: .*)?):?"
)


class LogPage(Value):
    """Some lines of a log."""

    lines: list[str]
    next_offset: int = Field(description="Where the next page starts.")
    truncated: bool = Field(
        default=False,
        description="Lines that were asked for are shortened or not here, nor on the next page.",
    )
    cut_bytes: int = Field(default=0, description="Bytes left out, as far as they were looked at.")
    at_eof: bool = Field(description="There is nothing more to read until the log grows.")
    note: str = Field(default="", description="What a reader should know of how this was read.")


class LogCursor(NamedTuple):
    """A place in the log of one attempt of a job, or in the log of its launch."""

    attempt: int
    offset: int
    is_of_launch: bool = False


def read_tail(
    path: Path,
    *,
    lines: int,
    grep: str | None = None,
    max_bytes: int = MAX_BYTES,
    final: bool = False,
    redactor: Redactor | None = None,
) -> LogPage:
    """The last lines of a log; one that does not exist yet is empty.

    A last line without its newline is left for the next page, unless it is longer than
    `max_bytes`.

    Args:
        path: The log.
        lines: Lines to return at most, from 1.
        grep: Regular expression found in each line returned.
        max_bytes: UTF-8 bytes to return at most, from 4.
        final: Nothing will be added to the log: an unfinished line is a line.
        redactor: What to hide, before anything is searched or cut; None: tokens of known shapes.

    Raises:
        InvalidArgument: `grep` cannot be used.
    """
    with _open_log(path, grep=grep, max_bytes=max_bytes, redactor=redactor) as log:
        first = max(0, log.size - log.scan_bytes)
        ends = backward(log.file, first, log.size, keep=max(LINE_BYTES, 2 * max_bytes))
        unfinished, waiting = _unfinished(next(ends), longest=max_bytes, final=final)
        tail = _Tail(lines=lines, max_bytes=max_bytes)
        tail.fill(log.matching((end, log.text(end.raw)) for end in chain(unfinished, ends)))
    cut_short = not tail.full and (first > 0 or log.gave_up)
    return LogPage(
        lines=tail.texts[::-1],
        next_offset=log.size - waiting,
        truncated=cut_short or tail.cut_bytes > 0,
        cut_bytes=tail.cut_bytes,
        at_eof=True,
        note=f"At most the last {log.scan_bytes // 2**20} MiB were looked at." if cut_short else "",
    )


def read_from(
    path: Path,
    offset: int,
    *,
    lines: int,
    grep: str | None = None,
    max_bytes: int = MAX_BYTES,
    final: bool = False,
    redactor: Redactor | None = None,
) -> LogPage:
    """The lines of a log from an offset on; a log that does not exist yet is empty.

    A line longer than `max_bytes` comes in pieces. The page ends early where it is full or the
    search took long; the next one goes on from `next_offset` without loss.

    Args:
        path: The log.
        offset: `next_offset` of the page before, or 0.
        lines: Lines to return at most, from 1.
        grep: Regular expression found in each line returned.
        max_bytes: UTF-8 bytes to return at most, from 4.
        final: Nothing will be added to the log: an unfinished line is a line.
        redactor: What to hide, before anything is searched or cut; None: tokens of known shapes.

    Raises:
        InvalidArgument: `grep` cannot be used.
    """
    with _open_log(path, grep=grep, max_bytes=max_bytes, redactor=redactor) as log:
        shrank = offset > log.size
        at = 0 if shrank else offset
        end = min(log.size, at + log.scan_bytes)
        pieces = forward(log.file, at, end, longest=max_bytes, final=final and end == log.size)
        page = _Page(lines=lines, max_bytes=max_bytes, at=at)
        page.fill(log.matching((piece, log.text(piece.raw)) for piece in pieces))
    read_all = page.exhausted and end == log.size and not log.gave_up
    return LogPage(
        lines=page.texts,
        next_offset=page.at,
        at_eof=read_all or page.at == log.size,
        note="The log is shorter than it was: reading started at its beginning." if shrank else "",
    )


def encode_cursor(cursor: LogCursor) -> str:
    """The cursor as a word for a caller to hand back."""
    text = f"{cursor.attempt}:{cursor.offset}{':launch' * cursor.is_of_launch}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str) -> LogCursor:
    """The cursor of a word that `encode_cursor` made.

    Raises:
        InvalidArgument: It is not such a word.
    """
    match = None
    with suppress(binascii.Error, UnicodeError):
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        match = _CURSOR.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True).decode())
    if match is None:
        raise InvalidArgument(
            f"cursor {text[:100]!r} is not one that a log page returned",
            "Pass next_cursor of the last page unchanged, or no cursor to get the tail",
        )
    return LogCursor(int(match[1]), int(match[2]), is_of_launch=match[3] is not None)


def last_error(lines: Iterable[str]) -> str | None:
    """The last line such as ``ValueError: what happened``; without its traceback's other lines.

    An error that carries no message counts only where none carries one: launchers such as
    torchrun end with an error of their own that says nothing.
    """
    with_message = without = None
    for line in lines:
        match = _ERROR.fullmatch(line.strip())
        if match and match["message"]:
            with_message = match["error"]
        elif match:
            without = match["error"]
    return with_message or without


def error_tail(path: Path, *, lines: int = 20, redactor: Redactor | None = None) -> str:
    """The last lines of the log of a job that has ended."""
    page = read_tail(path, lines=lines, max_bytes=_ERROR_TAIL_BYTES, final=True, redactor=redactor)
    return "\n".join(page.lines).strip("\n")


@dataclass(frozen=True)
class _OpenLog:
    """A log that is open for one page.

    Attributes:
        file: Its bytes, with secrets masked.
        size: Its bytes when it was opened.
        scan_bytes: Bytes to look at, at most.
    """

    file: MaskedLog
    size: int
    scan_bytes: int
    redactor: Redactor
    search: LogSearch | None

    def text(self, raw: bytes | None) -> str | None:
        """A line; a secret that a report of the progress hook stood in the middle of is hidden."""
        text = None if raw is None else text_of(raw)
        return self.redactor.text(text) if raw and text and MARKER_BYTES in raw else text

    def matching(self, texts: Iterable[tuple[_T, str | None]]) -> Iterable[tuple[_T, str | None]]:
        """The lines that contain what is searched for."""
        return self.search.matching(texts) if self.search else texts

    @property
    def gave_up(self) -> bool:
        """Whether the search ended early, because it took long."""
        return self.search is not None and self.search.gave_up


class _Page:
    """Lines in order, until there are enough.

    Args:
        lines: Lines wanted.
        max_bytes: Bytes wanted at most.
        at: Offset of the first line.
    """

    def __init__(self, *, lines: int, max_bytes: int, at: int) -> None:
        self.texts: list[str] = []
        self.at = at
        self.exhausted = False
        self._lines = lines
        self._room = max_bytes + 1  # the last line's newline is not returned

    def fill(self, pieces: Iterable[tuple[Piece, str | None]]) -> None:
        """Take lines until the page is full; `at` is then where the next one starts."""
        for piece, text in pieces:
            if text is not None:
                size = len(text.encode()) + 1
                if size > self._room:
                    if not self.texts:
                        self._take_part(piece)
                    return
                self.texts.append(text)
                self._room -= size
            self.at = piece.end
            if len(self.texts) == self._lines:
                return
        self.exhausted = True

    def _take_part(self, piece: Piece) -> None:
        # A byte that is not UTF-8 becomes the three of a replacement character.
        raw = whole((piece.raw or b"")[: max(1, self._room // 3)])
        self.texts.append(text_of(raw) or "")
        self.at = piece.start + len(raw)


class _Tail:
    """Lines from the last one back, until there are enough.

    Args:
        lines: Lines wanted.
        max_bytes: Bytes wanted at most.
    """

    def __init__(self, *, lines: int, max_bytes: int) -> None:
        self.texts: list[str] = []
        self.full = False
        self.cut_bytes = 0
        self._lines = lines
        self._room = max_bytes + 1

    def fill(self, ends: Iterable[tuple[EndOfLine, str | None]]) -> None:
        """Take lines, last first, until there are enough; count the bytes of those too many."""
        found = 0
        for end, text in ends:
            if text is not None:
                found += 1
                self._take(end, text.encode())
                if found == self._lines:
                    self.full = True
                    return

    def _take(self, end: EndOfLine, text: bytes) -> None:
        # Of a rewritten line, only earlier states were left out, which no reader wants.
        left_out = end.left_out if end.left_out and not last_state(end.raw) else 0
        if len(text) < self._room and not self.cut_bytes:
            self.texts.append(text.decode())
            self._room -= len(text) + 1
            self.cut_bytes += left_out
        elif self.texts:
            self.cut_bytes += left_out + len(text)
        else:
            kept = text[-(self._room - 1) :].decode("utf-8", "ignore")
            self.texts.append(kept)
            self.cut_bytes += left_out + len(text) - len(kept.encode())


def _unfinished(last: EndOfLine, *, longest: int, final: bool) -> tuple[list[EndOfLine], int]:
    """What to take of a last line without newline, and the bytes to leave for the next page."""
    raw, left_out = last
    length = len(raw) + left_out
    if final:
        return ([last] if length else []), 0
    if length <= longest:
        return [], length
    state = len(raw) - last_state(raw)
    if state <= longest:
        return [], state
    taken = whole(raw)
    return [EndOfLine(taken, left_out)], len(raw) - len(taken)


@contextmanager
def _open_log(
    path: Path, *, grep: str | None, max_bytes: int, redactor: Redactor | None
) -> Generator[_OpenLog]:
    """Open a log to read a page of it; one that does not exist yet is empty.

    Raises:
        InvalidArgument: `grep` is not a regular expression.
    """
    search = LogSearch(grep) if grep else None
    hide = redactor or Redactor()
    scan_bytes = max(_SEARCH_BYTES if search else _SCAN_BYTES, 4 * max_bytes)
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield _OpenLog(MaskedLog(io.BytesIO(), 0, hide), 0, scan_bytes, hide, search)
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        yield _OpenLog(MaskedLog(file, size, hide), size, scan_bytes, hide, search)
