"""Reads a job's log from Prefect in pages, if its file is on another machine."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import anyio.to_thread

from flows.core.logs.search import LogSearch
from flows.core.redaction import Redactor
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import LogLine

_MOST_LINES: Final = 10_000
"""Limit of lines that one call reads."""
_CURSOR: Final = re.compile(r"prefect:([0-9T:.+Z-]{10,40})/(\d{1,9})", re.ASCII)


class LogPlace(NamedTuple):
    """A place in a log: in Prefect only their times distinguish lines."""

    timestamp: datetime = datetime.fromtimestamp(0, UTC)
    """Of the last line before it."""
    seen: int = 0
    """Lines of that very time that are before it."""

    def after(self, lines: Iterable[LogLine]) -> "LogPlace":
        """Return the place after the lines that follow."""
        place = self
        for line in lines:
            seen = place.seen if line.timestamp == place.timestamp else 0
            place = LogPlace(line.timestamp, seen + 1)
        return place

    def encode(self) -> str:
        """Encode the place as a cursor."""
        return f"prefect:{self.timestamp.isoformat()}/{self.seen}"

    @staticmethod
    def decode(cursor: str) -> "LogPlace | None":
        """Decode a cursor of `encode`; None for any other text."""
        match = _CURSOR.fullmatch(cursor)
        try:
            timestamp = datetime.fromisoformat(match[1]) if match else None
        except ValueError:
            return None
        if match is None or timestamp is None or timestamp.tzinfo is None:
            return None
        return LogPlace(timestamp, int(match[2]))


class LogPart(NamedTuple):
    """Some lines of a log."""

    lines: list[str]
    next_place: LogPlace
    at_end: bool
    """Whether there are no lines after these."""
    notes: list[str]
    """Notes on what was cut."""


class PrefectLogs:
    """Reads the logs of flow runs.

    Args:
        gateway: Prefect's API.
        redactor: Hides secrets before a search or a cut.
    """

    def __init__(self, gateway: PrefectGateway, redactor: Redactor) -> None:
        self._gateway = gateway
        self._redactor = redactor

    async def read_from(
        self, run_id: str, start: LogPlace, *, lines: int, max_bytes: int, grep: str | None
    ) -> LogPart:
        """Read the lines from a place on; the next page has the rest.

        Args:
            run_id: The flow run.
            start: Where the previous page ended.
            lines: Lines to return at most.
            max_bytes: Limit of the lines as JSON.
            grep: Regular expression that each line returned contains.

        Raises:
            InvalidArgument: `grep` cannot be used.
        """
        search = await _search(grep)
        page = _Page(lines=lines, max_bytes=max_bytes)
        limit = MAX_PAGE if search else min(lines, MAX_PAGE)
        place, looked_at = start, 0
        while True:
            rows = await self._gateway.read_logs(
                run_id, limit=limit, offset=place.seen, since=place.timestamp
            )
            taken = page.fill(await self._search_rows(search, rows))
            place, looked_at = place.after(rows[:taken]), looked_at + taken
            at_end = len(rows) < limit and taken == len(rows)
            if at_end or taken < len(rows) or page.is_closed or looked_at >= _MOST_LINES:
                break
        notes = page.notes()
        if not (at_end or page.is_full):
            notes.append(f"{looked_at:,} lines were looked at and more follow next_cursor")
        return LogPart(page.messages, place, at_end, notes)

    async def read_tail(
        self, run_id: str, *, lines: int, max_bytes: int, grep: str | None
    ) -> LogPart:
        """Read the last lines.

        Args:
            run_id: The flow run.
            lines: Lines to return at most.
            max_bytes: Limit of the lines as JSON.
            grep: Regular expression that each line returned contains.

        Raises:
            InvalidArgument: `grep` cannot be used.
        """
        search = await _search(grep)
        page = _Page(lines=lines, max_bytes=max_bytes)
        # One extra line: it usually shows that no more lines have the time of the last.
        limit = MAX_PAGE if search else min(lines + 1, MAX_PAGE)
        looked_at, taken, end = 0, 0, LogPlace()
        while True:
            rows = await self._gateway.read_logs(
                run_id,
                limit=limit,
                offset=looked_at,
                until=end.timestamp if looked_at else None,
                newest_first=True,
            )
            if rows and not looked_at:
                end = LogPlace(rows[0].timestamp)
            end = end.after(row for row in rows if row.timestamp == end.timestamp)
            looked_at += len(rows)
            if not page.is_closed:
                taken += page.fill(await self._search_rows(search, rows))
            if len(rows) < limit or looked_at >= _MOST_LINES:
                break
            if page.is_closed and rows[-1].timestamp < end.timestamp:
                break
        notes = page.notes()
        if page.is_out_of_room and taken < looked_at:
            notes.append("earlier lines were left out")
        elif not page.is_closed and (len(rows) == limit or taken < looked_at):
            notes.append(f"only the last {taken:,} lines were looked at")
        return LogPart(page.messages[::-1], end, at_end=True, notes=notes)

    async def _search_rows(self, search: LogSearch | None, rows: list[LogLine]) -> list[str | None]:
        """Return the messages, None for each that does not match; fewer if time was up."""

        def matching() -> list[str | None]:
            messages = [self._redactor.text(row.message) for row in rows]
            if search is None:
                return list(messages)
            texts = ((message, " ".join(message.splitlines())) for message in messages)
            return [None if found is None else text for text, found in search.matching(texts)]

        return await anyio.to_thread.run_sync(matching)


class _Page:
    """Collects messages until a page is full.

    Args:
        lines: Messages wanted.
        max_bytes: Limit of them as JSON.
    """

    def __init__(self, *, lines: int, max_bytes: int) -> None:
        self.messages: list[str] = []
        self.is_out_of_room = False
        self._lines = lines
        self._room = max_bytes
        self._cut = 0

    @property
    def is_full(self) -> bool:
        """Whether it holds as many as requested."""
        return len(self.messages) >= self._lines

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        return self.is_full or self.is_out_of_room

    def fill(self, messages: Iterable[str | None]) -> int:
        """Take messages, skipping None; return how many were taken or skipped."""
        count = 0
        for message in messages:
            if self.is_closed or (message is not None and not self._take(message)):
                break
            count += 1
        return count

    def notes(self) -> list[str]:
        """A note on what was cut from a message."""
        return [f"{self._cut:,} characters of a long line were cut"] if self._cut else []

    def _take(self, message: str) -> bool:
        size = _json_bytes(message)
        if size > self._room:
            self.is_out_of_room = True
            if self.messages:
                return False
            # It does not fit even alone; JSON makes up to six bytes of a character.
            kept = next(
                part
                for part in (message[: self._room // share] for share in (1, 2, 6))
                if _json_bytes(part) <= self._room + 2
            )
            self._cut = len(message) - len(kept)
            message = kept
        self.messages.append(message)
        self._room -= size
        return True


async def _search(grep: str | None) -> LogSearch | None:
    return await anyio.to_thread.run_sync(LogSearch, grep) if grep else None


def _json_bytes(message: str) -> int:
    """The bytes of a message and its line break in an answer."""
    return len(json.dumps(message, ensure_ascii=False).encode())
