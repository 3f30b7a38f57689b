"""From the bytes of a job's log to the lines a person reads.

A line ends at a newline. Of a line that a progress bar rewrote with carriage returns only the
last state is shown; reports of the progress hook, escape sequences and control characters are
taken out; what is not UTF-8 is replaced.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

REPORT_MARKER: Final = "::oumi-flows-progress:: "
"""What a report of flows/launcher/progress_hook.py starts with."""

BLOCK_BYTES: Final = 256 * 1024
LINE_BYTES: Final = 64 * 1024
_FIRST_BLOCK_BYTES: Final = 16 * 1024
"""Of a tail or a page, which is short as a rule; blocks grow from it to `BLOCK_BYTES`."""

MARKER_BYTES: Final = REPORT_MARKER.encode()
# The hook writes a report between two carriage returns; without both the log reads as if there
# had been no report.
_REPORT = re.compile(rb"\r?" + re.escape(MARKER_BYTES) + rb"[^\r\n]*\r?")
_SPECIAL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# ECMA-48: control sequences, strings that end with BEL or ESC \, other escapes.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
)
_UNFINISHED_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]*|\][^\x07\x1b]{0,64}|[ -/]*)\Z")
_ESCAPE_REACH = 80
_UTF8_MAX = 4


class LogBytes(Protocol):
    """A log that is read in blocks."""

    def seek(self, offset: int, /) -> int:
        """Read from `offset` on."""
        ...

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`."""
        ...

    def has_newline(self, size: int, /) -> bool:
        """Whether a line ends in the next `size` bytes, which are not read by this."""
        ...


class Piece(NamedTuple):
    """A line without its newline, or the part of one that is too long to wait for its end."""

    start: int
    end: int
    """Offset of what follows it in the file."""
    raw: bytes | None
    """None: states of a progress bar that later ones replaced."""


class EndOfLine(NamedTuple):
    """A line, or the end of one that is too long to keep."""

    raw: bytes
    left_out: int
    """Bytes of the line before `raw`."""


def text_of(raw: bytes) -> str | None:
    """What a person reads of a line; None if it holds nothing but progress reports."""
    if MARKER_BYTES in raw:
        rest = _REPORT.sub(b"", raw)
        if not rest.strip():
            return None
        raw = rest
    if not _SPECIAL.search(raw):
        return raw.decode("utf-8", "replace")
    states = raw.split(b"\r")
    return next((text for text in map(plain_text, reversed(states)) if text.strip()), "")


def last_state(raw: bytes) -> int:
    """Where the last state of a rewritten line starts; all before it is never shown."""
    end = len(raw)
    while end > 0:
        start = raw.rfind(b"\r", 0, end) + 1
        state = raw[start:end]
        if not MARKER_BYTES.startswith(state[: len(MARKER_BYTES)]) and plain_text(state).strip():
            return start
        end = start - 1
    return raw.rfind(b"\r") + 1


def whole(raw: bytes) -> bytes:
    """`raw` less a character or escape sequence at its end that may go on after it."""
    escape = _UNFINISHED_ESCAPE.search(raw, max(0, len(raw) - _ESCAPE_REACH))
    if escape and escape.start() > 0:
        raw = raw[: escape.start()]
    for back in range(1, min(_UTF8_MAX, len(raw))):
        byte = raw[-back]
        if byte >= 0xC0:
            needed = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return raw[:-back] if needed > back else raw
        if byte < 0x80:
            break
    return raw


def forward(file: LogBytes, start: int, end: int, *, longest: int, final: bool) -> Iterator[Piece]:
    """The lines from `start` to `end`, in order, each byte in exactly one piece.

    Args:
        file: The log.
        start: Offset to start at.
        end: Offset to stop at.
        longest: Bytes after which a line is taken in pieces rather than waited for.
        final: Take an unfinished last line too: nothing will be added to it.
    """
    file.seek(start)
    buffer, base, at = b"", start, 0
    size = _FIRST_BLOCK_BYTES
    while True:
        newline = buffer.find(b"\n", at, at + longest + 1)
        if newline >= 0:
            yield Piece(base + at, base + newline + 1, buffer[at:newline])
            at = newline + 1
        elif len(buffer) - at > longest:
            raw, length = _part(buffer[at : at + longest])
            yield Piece(base + at, base + at + length, raw)
            at += length
        else:
            block = file.read(max(0, min(size, end - base - len(buffer))))
            size = min(2 * size, BLOCK_BYTES)
            if not block:
                break
            buffer, base, at = buffer[at:] + block, base + at, 0
    if final and at < len(buffer):
        yield Piece(base + at, base + len(buffer), buffer[at:])


def backward(
    file: LogBytes, start: int, end: int, *, keep: int = LINE_BYTES
) -> Iterator[EndOfLine]:
    """The lines from `end` back to `start`, last first; the first one has no newline.

    Unless `start` is 0, more of the last one may lie before `start`.

    Args:
        file: The log.
        start: Offset to stop at.
        end: Offset to start at.
        keep: Bytes to keep of a line at most, from its end.
    """
    kept, left_out = b"", 0
    size = _FIRST_BLOCK_BYTES
    while end > start:
        block_start = max(start, end - size)
        size = min(2 * size, BLOCK_BYTES)
        file.seek(block_start)
        # Of a line whose end is kept already, only the beginning is looked for.
        if left_out and not file.has_newline(end - block_start):
            left_out += end - block_start
            end = block_start
            continue
        block = file.read(end - block_start)
        at = len(block)
        while (newline := block.rfind(b"\n", 0, at)) >= 0:
            yield _join(block[newline + 1 : at], kept, left_out, keep=keep)
            kept, left_out, at = b"", 0, newline
        kept, left_out = _join(block[:at], kept, left_out, keep=keep)
        end = block_start
    yield EndOfLine(kept, left_out)


def plain_text(raw: bytes) -> str:
    """Return the text of a state of a line without escape sequences and control characters."""
    return _CONTROL.sub("", _ESCAPE.sub("", raw.decode("utf-8", "replace")))


def _part(window: bytes) -> tuple[bytes | None, int]:
    """What to take from the start of a line longer than `window`, and its length."""
    complete = window.rfind(b"\r") + 1
    if not complete:
        raw = whole(window)
        return raw, len(raw)
    replaced = last_state(window)
    return (None, replaced) if replaced else (window[:complete], complete)


def _join(raw: bytes, kept: bytes, left_out: int, *, keep: int) -> EndOfLine:
    """The end of a line, from bytes of it and the end already kept."""
    if left_out:
        return EndOfLine(kept, left_out + len(raw))
    if not kept and len(raw) <= keep:
        return EndOfLine(raw, 0)
    over = max(0, len(raw) + len(kept) - keep)
    line = raw[over:] + kept
    # What is kept starts with a whole character.
    while over and line and 0x80 <= line[0] < 0xC0 and len(line) > keep - _UTF8_MAX:
        line, over = line[1:], over + 1
    return EndOfLine(line, over)
