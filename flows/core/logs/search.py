"""Searching lines with a pattern someone else wrote, in bounded time and memory."""

import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

from flows.core.errors import InvalidArgument

_BATCH: Final = 2**16
"""Characters searched at once: without a match RE2 takes 11 ms for 16 MiB, by lines 430 ms."""
SEARCH_CPU_SECONDS: Final = 3.0
_MAX_PATTERN: Final = 1000
# RE2 takes time in proportion to the text, but with 5 ns a byte for most patterns and, for the
# worst ones, 12 ns a byte and instruction (google-re2 1.1): `a.{900}c` takes 35 µs a byte.
_MAX_PROGRAM: Final = 5000

_UNKNOWN: Final = re.compile(r"invalid (?:perl operator|escape sequence): (.+)", re.DOTALL)
# Many lines are searched as one text, so what stands for the ends of a text is refused.
_OF_TEXTS: Final = re.compile(r"(?:\\[^AzC]|[^\\])*(\\[AzC])", re.DOTALL)
_NAMES: Final = {
    "(?=": "a look-ahead",
    "(?!": "a look-ahead",
    "(?<=": "a look-behind",
    "(?<!": "a look-behind",
    "(?>": "an atomic group",
    "(?(": "a condition",
    "(?P": "a back reference",
    "\\k": "a back reference",
    **{f"\\{number}": "a back reference" for number in range(1, 10)},
}

T = TypeVar("T")


class _Match(Protocol):
    def start(self) -> int: ...


class _Pattern(Protocol):
    @property
    def programsize(self) -> int: ...

    def search(self, text: bytes, pos: int) -> _Match | None: ...


class LogSearch:
    """One search through the lines of a log.

    Args:
        pattern: Regular expression in the syntax of RE2.
        clock: CPU seconds of this thread.

    Raises:
        InvalidArgument: `pattern` is not a regular expression, uses what RE2 does not support, or
            is too large.
    """

    def __init__(self, pattern: str, *, clock: Callable[[], float] = time.thread_time) -> None:
        if len(pattern) > _MAX_PATTERN:
            raise InvalidArgument(
                f"grep is {len(pattern)} characters long, over the limit of {_MAX_PATTERN}",
                "Search for a shorter part of it",
            )
        self._pattern = _compile(pattern)
        self._clock = clock
        self._spent = 0.0
        self.gave_up = False

    def matching(self, lines: Iterable[tuple[T, str | None]]) -> Iterator[tuple[T, str | None]]:
        """The same lines, with None for the text of each that contains no match.

        After `SEARCH_CPU_SECONDS` of matching it stops early and sets `gave_up`.
        """
        batch: list[tuple[T, str | None]] = []
        size = 0
        for line in lines:
            if self._spent > SEARCH_CPU_SECONDS:
                self.gave_up = True
                return
            batch.append(line)
            size += len(line[1] or "") + 1
            if size >= _BATCH:
                yield from self._search(batch)
                batch, size = [], 0
        yield from self._search(batch)

    def _search(self, batch: list[tuple[T, str | None]]) -> Iterator[tuple[T, str | None]]:
        began = self._clock()
        found = self._find([text or "" for _, text in batch])
        self._spent += self._clock() - began
        for number, (item, text) in enumerate(batch):
            yield item, text if number in found else None

    def _find(self, texts: list[str]) -> set[int]:
        """The indices of the lines that match."""
        joined = "\n".join(texts).encode("utf-8", "replace")
        found: set[int] = set()
        number = at = 0
        while at <= len(joined) and (match := self._pattern.search(joined, at)):
            number += joined.count(b"\n", at, match.start())
            found.add(number)
            at = joined.find(b"\n", match.start()) + 1
            if at == 0:
                break
            number += 1
        return found


def _compile(pattern: str) -> _Pattern:
    # Only a search needs it: it takes 20 ms to import. It has no types.
    re2 = importlib.import_module("re2")
    re2.purge()  # its cache would keep 128 patterns of up to 8 MiB each
    if of_texts := _OF_TEXTS.match(pattern):
        raise _not_supported(pattern, of_texts[1])
    try:
        # With (?m), ^ and $ stand for the ends of a line.
        compiled: _Pattern = re2.compile(
            b"(?m)" + pattern.encode("utf-8", "surrogatepass"), _options(re2)
        )
    except re2.error as error:
        raise _explain(pattern, error.args[0].decode("utf-8", "replace")) from error
    if compiled.programsize > _MAX_PROGRAM:
        raise InvalidArgument(
            f"grep {pattern!r} takes too much time or memory",
            "Use a simpler pattern, best a plain word, without large counts such as {900}",
        )
    return compiled


def _options(re2: Any) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.never_nl = True
    return options


def _explain(pattern: str, why: str) -> InvalidArgument:
    if unknown := _UNKNOWN.fullmatch(why):
        return _not_supported(pattern, unknown[1])
    return InvalidArgument(
        f"grep {pattern!r} is not a regular expression: {why.replace('(?m)', '', 1)}",
        "Correct it, or put a backslash before characters such as ( [ * to find them",
    )


def _not_supported(pattern: str, fragment: str) -> InvalidArgument:
    what = f"{_NAMES[fragment]}, {fragment}" if fragment in _NAMES else fragment
    return InvalidArgument(
        f"grep {pattern!r} uses {what}, which is not supported",
        "Use the syntax of RE2, which has no look-arounds and no back references; "
        "^ and $ stand for the ends of a line",
    )
