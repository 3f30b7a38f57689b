"""Keeping secrets out of what people, models and Prefect are shown.

Redact text first; cut, search and page it afterwards. Text that is cut before it is redacted may
show a part of a secret.
"""

import base64
import html
import json
import os
import re
import shlex
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Protocol, cast
from urllib.parse import quote, quote_plus

from flows.core.secret_names import (
    SHORTEST,
    grade,
    holds_secret,
    is_common,
    is_secret,
)
from flows.core.secret_shapes import (
    Span,
    as_bytes,
    is_long_word,
    long_words,
    named_spans,
    shape_spans,
)

__all__ = ["HIDDEN", "Redactor", "hide_tokens", "is_secret"]

HIDDEN: Final = "***"
"""Stands where a secret was."""

_SHORTEST_LINE: Final = 16
_SHORTEST_BASE64: Final = 12
_BEGUN: Final = 4
"""Characters of a secret that has only begun from which on it is hidden."""
_USER_INFO: Final = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_TAKEN_OUT: Final = re.compile(
    # ECMA-48, as flows/core/logs/lines.py takes it out of what is shown.
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+"
)


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Marks(Protocol):
    """Secrets that are recognised without being known."""

    def found(self, text: str, long_words: str) -> Iterator[str]:
        """Those that stand in a text, whose long words are given too."""
        ...


class Redactor:
    """Hides secrets in text.

    Args:
        values: Secrets that are known. Each is also found as JSON, a URL, a shell, HTML and
            base64 write it.
        marks: Secrets of which only digests are known.
    """

    def __init__(self, values: Iterable[str] = (), *, marks: Marks | None = None) -> None:
        needles = ways_of_writing(values)
        self._needles = list(needles)
        self._of_bytes = [as_bytes(needle).decode("latin-1") for needle in self._needles]
        self._marks = marks

    def text(self, text: str) -> str:
        """`text` without secrets; it keeps its lines."""
        return _without(text, _merge(self._spans(text, self._needles, is_free=True)))

    def data(self, value: Any) -> Any:
        """A value as JSON and YAML have it, without the secrets in its texts and keys.

        Only what is known or has the look of a secret is hidden: documents keep their examples.
        """
        match value:
            case str():
                return _without(value, _merge(self._spans(value, self._needles, is_free=False)))
            case dict():
                entries = cast("dict[object, object]", value).items()
                return {self.data(key): self.data(entry) for key, entry in entries}
            case list():
                return [self.data(entry) for entry in cast("list[object]", value)]
            case _:
                return value

    def config(self, value: Any, name: str = "") -> Any:
        """A config without its secrets, for people to read."""
        match value:
            case dict():
                entries = cast("dict[object, object]", value).items()
                return {
                    self.data(key): self.config(entry, str(key).rpartition(".")[2])
                    for key, entry in entries
                }
            case list():
                return [self.config(entry, name) for entry in cast("list[object]", value)]
            case _ if holds_secret(name, value):
                return HIDDEN
            case str():
                return self.text(value)
            case _:
                return value

    def arguments(self, arguments: list[str]) -> list[str]:
        """A command's arguments, of which one may say that the next is a secret."""
        hidden = [self.text(argument) for argument in arguments]
        for number, (option, value) in enumerate(pairwise(arguments), start=1):
            if option.startswith("-") and holds_secret(option.lstrip("-"), value):
                hidden[number] = HIDDEN
        return hidden

    def mask(self, raw: bytes, *, is_open: bool = False) -> bytes:
        """Bytes of a log, as many as before, whose secrets are ``***`` and NULs.

        Readers of logs take control characters out, so that only the stars are seen, while every
        other byte keeps its place in the file.

        Args:
            raw: The bytes.
            is_open: Whether more may follow: a known secret that has only begun is masked too.
        """
        spans = self._find_secrets(raw.decode("latin-1"), is_open=is_open)
        if not spans:
            return raw
        masked = bytearray(raw)
        for start, end in spans:
            masked[start:end] = _filler(raw[start:end])
        return bytes(masked)

    def _find_secrets(self, text: str, *, is_open: bool) -> list[Span]:
        """Find what to mask, also where control characters stand in the middle of it."""
        if _CONTROL.search(text) is None:
            return self._to_mask(text, is_open=is_open)
        seen = _Seen(text)
        return [seen.span(span) for span in self._to_mask(seen.text, is_open=is_open)]

    def _to_mask(self, text: str, *, is_open: bool) -> list[Span]:
        begun: list[Span] = []
        for needle in self._of_bytes if is_open else ():
            at = text.rfind(needle[:_BEGUN], max(0, len(text) - len(needle)))
            if at >= 0 and needle.startswith(text[at:]):
                begun.append((at, len(text)))
        return _merge([*begun, *self._spans(text, self._of_bytes, is_free=True)])

    def _spans(self, text: str, needles: list[str], *, is_free: bool) -> Iterator[Span]:
        words = long_words(text)
        known = [
            needle for needle in needles if needle in (words if is_long_word(needle) else text)
        ]
        for needle in [*known, *(self._marks.found(text, words) if self._marks else ())]:
            at = text.find(needle)
            while at >= 0:
                yield at, at + len(needle)
                at = text.find(needle, at + 1)
        yield from shape_spans(text, words)
        if is_free:
            yield from named_spans(text)


class _Seen:
    """A text without what readers of logs take out, and where each character of it was."""

    def __init__(self, text: str) -> None:
        kept: list[str] = []
        self._starts: list[int] = []
        self._places: list[int] = []
        at = size = 0
        for gap in _TAKEN_OUT.finditer(text):
            self._add(size, at)
            kept.append(text[at : gap.start()])
            size += gap.start() - at
            at = gap.end()
        self._add(size, at)
        kept.append(text[at:])
        self.text = "".join(kept)

    def span(self, span: Span) -> Span:
        """Where a part of the text was."""
        return self._place(span[0]), self._place(span[1] - 1) + 1

    def _add(self, start: int, place: int) -> None:
        self._starts.append(start)
        self._places.append(place)

    def _place(self, at: int) -> int:
        number = bisect_right(self._starts, at) - 1
        return self._places[number] + at - self._starts[number]


def own_redactor() -> Redactor:
    """Hides the secrets of this process's environment, and what has the look of one."""
    return _redactor_of(tuple(os.environ.items()))


def own_secrets() -> list[str]:
    """The secrets in this process's environment."""
    return list(_secrets_of(tuple(os.environ.items())))


@lru_cache(4)
def _redactor_of(environment: tuple[tuple[str, str], ...]) -> Redactor:
    return Redactor(_secrets_of(environment))


@lru_cache(4)
def _secrets_of(environment: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(secrets_of(dict(environment)))


def ways_of_writing(values: Iterable[str]) -> set[str]:
    """Secrets as programs write them: plain, in JSON, in URLs, for a shell, in base64."""
    return {way for value in values for part in _parts(value) for way in _written(part)}


def hide_tokens(text: str) -> str:
    """`text` without what has the look of a secret; JSON stays JSON."""
    return _without(text, _merge(shape_spans(text, long_words(text))))


def is_secret_override(key: str, value: object) -> bool:
    """Whether an override gives a secret."""
    if holds_secret(key.rpartition(".")[2], value):
        return True
    return isinstance(value, str) and Redactor().text(value) != value


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets among variables that are distinct enough to look for in other text."""
    return list(_secrets(environment, ""))


def config_secrets(config: object) -> list[str]:
    """The secrets in a config: in its variables, under its keys, in its scripts."""
    return list(dict.fromkeys(_secrets(config, "")))


def _secrets(value: object, name: str) -> Iterator[str]:
    match value:
        case dict() | Mapping():
            for key, entry in cast("Mapping[object, object]", value).items():
                yield from _secrets(entry, str(key))
        case list():
            for entry in cast("list[object]", value):
                yield from _secrets(entry, name)
        case _ if holds_secret(name, value):
            if not is_common(str(value), grade(name)):
                yield str(value).strip()
        case str():
            yield from _secrets_in(value)
        case _:
            return


def _secrets_in(text: str) -> Iterator[str]:
    """The secrets that a text itself shows to be some."""
    for start, end in [*shape_spans(text, long_words(text)), *named_spans(text)]:
        if not is_common(text[start:end]):
            yield text[start:end]
    for found in _USER_INFO.finditer(text):
        if not is_common(found[1]):
            yield found[1]


def _parts(value: str) -> list[str]:
    """What to look for in text: the value, or each longer line of it."""
    if "\n" in value:
        return [line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE]
    return [value] if len(value) >= SHORTEST else []


def _written(value: str) -> Iterator[str]:
    """A value in the ways in which programs write it."""
    yield value
    if not value.isalnum():
        plain, escaped = json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
        yield from (plain, escaped, json.dumps(escaped)[1:-1], repr(value)[1:-1])
        for text in (
            quote(value, errors="replace"),
            quote(value, safe="", errors="replace"),
            quote_plus(value, errors="replace"),
        ):
            yield from (text, re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), text))
        quoted = shlex.quote(value)
        yield quoted[1:-1] if quoted.startswith("'") else quoted
        yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", value)  # as printf %q does
        yield html.escape(value)
    yield from _in_base64(as_bytes(value))


def _in_base64(raw: bytes) -> Iterator[str]:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Of the characters that hold bits of a neighbour, none is looked for.
            text = encode(b"\0" * before + raw).decode().rstrip("=")
            whole = text[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
            if len(whole) >= _SHORTEST_BASE64:
                yield whole


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Spans in order; those that overlap are one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    parts: list[str] = []
    at = 0
    for start, end in spans:
        hidden = text[start:end]
        parts += [text[at:start], "\n".join(HIDDEN for _ in hidden.split("\n"))]
        at = end
    return "".join([*parts, text[at:]])


def _filler(raw: bytes) -> bytes:
    return re.sub(
        rb"[^\r\n]+", lambda part: b"*" * min(3, len(part[0])) + b"\0" * (len(part[0]) - 3), raw
    )
