"""Searching lines with a pattern someone else wrote, in bounded time and memory."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from flows.core.errors import InvalidArgument

_FIRST_BATCH_BYTES: Final = 2**18
_MAX_BATCH_BYTES: Final = 2**22
BATCH_SECONDS: Final = 2.0
SEARCH_SECONDS: Final = 2.0
_MAX_PATTERN = 1000
_BAD_PATTERN = 2

# A match of `re` can backtrack for ever while it holds the interpreter's lock, and nothing in
# the same process can stop it; a child costs 15 ms. The limits outlive a parent that is killed.
_CHILD = f"""
import re, resource, sys
for kind, limit in ((resource.RLIMIT_CPU, 5), (resource.RLIMIT_AS, 2**30)):
    try:
        resource.setrlimit(kind, (limit, limit))
    except (OSError, ValueError):
        pass
pattern, *lines = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").split("\\n")
try:
    find = re.compile(bytes.fromhex(pattern).decode("utf-8", "surrogatepass")).search
except (re.error, RecursionError, OverflowError) as error:
    sys.stdout.write(str(error))
    sys.exit({_BAD_PATTERN})
sys.stdout.write("".join("1" if find(line) else "0" for line in lines))
"""

T = TypeVar("T")


class LogSearch:
    """One search through the lines of a log.

    Args:
        pattern: Regular expression in the syntax of ``re``.
        clock: Seconds, monotonic.

    Raises:
        InvalidArgument: `pattern` is not a regular expression.
    """

    def __init__(self, pattern: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        if len(pattern) > _MAX_PATTERN:
            raise InvalidArgument(
                f"grep is {len(pattern)} characters long, over the limit of {_MAX_PATTERN}",
                "Search for a shorter part of it",
            )
        self._pattern = pattern
        self._clock = clock
        self._ends_at = clock() + SEARCH_SECONDS
        self.gave_up = False
        self._matches([""])

    def matching(self, lines: Iterable[tuple[T, str | None]]) -> Iterator[tuple[T, str | None]]:
        """The same lines, with None for the text of each that contains no match.

        After `SEARCH_SECONDS` it stops early and sets `gave_up`.

        Raises:
            InvalidArgument: The pattern takes too long.
        """
        batch: list[tuple[T, str | None]] = []
        size, enough = 0, _FIRST_BATCH_BYTES
        for line in lines:
            batch.append(line)
            size += len(line[1] or "") + 1
            if size >= enough:
                yield from self._searched(batch)
                batch, size, enough = [], 0, min(2 * enough, _MAX_BATCH_BYTES)
                if self._clock() > self._ends_at:
                    self.gave_up = True
                    return
        yield from self._searched(batch)

    def _searched(self, batch: list[tuple[T, str | None]]) -> Iterator[tuple[T, str | None]]:
        texts = [text for _, text in batch if text is not None]
        matches = iter(self._matches(texts))
        for item, text in batch:
            found = text is not None and next(matches)
            yield item, text if found else None

    def _matches(self, texts: list[str]) -> list[bool]:
        if not texts:
            return []
        lines = [self._pattern.encode("utf-8", "surrogatepass").hex(), *texts]
        try:
            child = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _CHILD],
                input="\n".join(lines).encode("utf-8", "surrogatepass"),
                capture_output=True,
                timeout=BATCH_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self._too_costly() from error
        answer = child.stdout.decode("utf-8", "replace")
        if child.returncode == _BAD_PATTERN:
            raise InvalidArgument(
                f"grep {self._pattern!r} is not a regular expression: {answer}",
                "Correct it, or put a backslash before characters such as ( [ * to find them",
            )
        if child.returncode != 0:
            raise self._too_costly()
        return [match == "1" for match in answer]

    def _too_costly(self) -> InvalidArgument:
        return InvalidArgument(
            f"grep {self._pattern!r} takes too much time or memory",
            "Use a simpler pattern, best a plain word, without nested * and +",
        )
