"""Reads a job's log: from its file if this machine has it, else from Prefect."""

import json
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import anyio.to_thread

from flows.core.errors import InvalidArgument, OumiFlowsError
from flows.core.logs import pages as logs
from flows.core.logs.pages import LogCursor, LogPage
from flows.core.redaction import Redactor
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.log_files import LaunchLog, LogFiles
from mcp_server.services.jobs.prefect_logs import LogPlace, PrefectLogs
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.results import JobLogs

DEFAULT_LINES: Final = 80
START: Final = "start"
"""The cursor of the first line of a job's first attempt."""

_BYTES: Final = 10_000
"""Limit of the log in an answer, as JSON; leaves room for the rest of the 12 kB."""
_MOST_BYTES: Final = 80_000
_TAIL_LINES: Final = 20


class _Part(NamedTuple):
    page: LogPage
    cursor: LogCursor


class LogReader:
    """Reads the logs of jobs.

    Args:
        gateway: Prefect's API.
        redactors: Hide secrets.
    """

    def __init__(self, gateway: PrefectGateway, redactors: Redactors) -> None:
        self._gateway = gateway
        self._redactors = redactors

    async def read(
        self, run: FlowRun, *, lines: int, cursor: str | None, grep: str | None
    ) -> JobLogs:
        """Read a part of a job's log.

        Args:
            run: The job.
            lines: Lines to return at most.
            cursor: Where an earlier call ended, or `START`; None: read the tail.
            grep: Regular expression that each line returned contains.

        Raises:
            InvalidArgument: `cursor` or `grep` cannot be used.
        """
        redactor = await anyio.to_thread.run_sync(self._redactors.of, run)
        files = LogFiles.of(run)
        if cursor == START:
            cursor = logs.encode_cursor(LogCursor(files.first_attempt if files else 1, 0))
        in_prefect = LogPlace.decode(cursor or "") is not None
        if not in_prefect:
            place = logs.decode_cursor(cursor) if cursor else None
            look = partial(_read_launch, run, place, redactor, lines=lines, grep=grep)
            if page := await anyio.to_thread.run_sync(look):
                return page
            if place is not None and place.is_of_launch:
                cursor = logs.encode_cursor(LogCursor(place.attempt, 0))
        if files is None or in_prefect or not await anyio.to_thread.run_sync(files.is_here):
            if files or run.state.job_state.is_terminal:
                return await self._from_prefect(
                    run, redactor, lines=lines, cursor=cursor, grep=grep
                )
            start = cursor or logs.encode_cursor(LogCursor(run.attempt, 0))
            return _answer(run, [], next_cursor=start, at_end=False, notes=["not started yet"])
        read = partial(_read_file, files, run, redactor, lines=lines, cursor=cursor, grep=grep)
        page = await anyio.to_thread.run_sync(read)
        launch = LaunchLog.of(run)
        if cursor and not page.lines_returned and launch and launch.attempt > files.attempt:
            start = LogCursor(launch.attempt, 0)
            look = partial(_read_launch, run, start, redactor, lines=lines, grep=grep)
            return await anyio.to_thread.run_sync(look) or page
        return page

    async def error_tail(self, run: FlowRun) -> str:
        """Read the last lines of a job that failed; empty if they cannot be read."""
        redactor = await anyio.to_thread.run_sync(self._redactors.of, run)
        for files in (LaunchLog.of(run), LogFiles.of(run)):
            if files and await anyio.to_thread.run_sync(files.is_here):
                path = files.path if isinstance(files, LaunchLog) else files.last
                read = partial(logs.error_tail, path, lines=_TAIL_LINES, redactor=redactor)
                return await anyio.to_thread.run_sync(read)
        try:
            found = await self._gateway.read_logs(run.id, limit=_TAIL_LINES, newest_first=True)
        except OumiFlowsError:
            return ""
        return redactor.text("\n".join(line.message for line in reversed(found)))[-4000:]

    async def _from_prefect(
        self, run: FlowRun, redactor: Redactor, *, lines: int, cursor: str | None, grep: str | None
    ) -> JobLogs:
        notes = ["from Prefect, which has only some of the lines"]
        start = LogPlace.decode(cursor or "")
        if cursor and start is None:
            if logs.decode_cursor(cursor).offset == 0:
                start = LogPlace()
            else:
                notes.append("this is the tail, as the file of cursor is not on this machine")
        room = page_bytes(lines)
        in_prefect = PrefectLogs(self._gateway, redactor)
        if start is None:
            part = await in_prefect.read_tail(run.id, lines=lines, max_bytes=room, grep=grep)
        else:
            part = await in_prefect.read_from(run.id, start, lines=lines, max_bytes=room, grep=grep)
        return _answer(
            run,
            part.lines,
            next_cursor=part.next_place.encode(),
            at_end=run.state.job_state.is_terminal and part.at_end,
            notes=[*notes, *part.notes],
        )


def _read_launch(
    run: FlowRun, place: LogCursor | None, redactor: Redactor, *, lines: int, grep: str | None
) -> JobLogs | None:
    """Read the log of the last launch, or what is left of an earlier one.

    Returns:
        None: The place is elsewhere, or nothing is left to read there.
    """
    found = _launch_place(run, place)
    if found is None or not found[0].is_here():
        return None
    launch, offset = found
    is_current = launch == LaunchLog.of(run)
    ended = run.state.job_state.is_terminal and is_current
    page = _launch_page(
        launch.path,
        None if place is None else offset,
        redactor,
        lines=lines,
        grep=grep,
        final=ended or not is_current,
    )
    if not page.lines and page.at_eof and not is_current:
        return None
    cursor = LogCursor(launch.attempt, page.next_offset, is_of_launch=True)
    return _answer(
        run,
        page.lines,
        next_cursor=logs.encode_cursor(cursor),
        at_end=ended and page.at_eof,
        notes=["the log of its launch", *filter(None, [page.note])],
        log_path=str(launch.path),
    )


def _launch_place(run: FlowRun, place: LogCursor | None) -> tuple[LaunchLog, int] | None:
    """The log of a launch that a place is in, and where."""
    launch, label = LaunchLog.of(run), run.labels.launch_log
    if place is not None and place.is_of_launch and label:
        return LaunchLog(Path(label), 0).of_attempt(run, place.attempt), place.offset
    # An attempt whose launch has not ended has no other log.
    if launch is None or (place is not None and place.attempt != launch.attempt):
        return None
    return launch, 0


def _launch_page(
    path: Path,
    offset: int | None,
    redactor: Redactor,
    *,
    lines: int,
    grep: str | None,
    final: bool,
) -> LogPage:
    read = logs.read_tail if offset is None else partial(logs.read_from, offset=offset)
    limit = page_bytes(lines)
    for room in (limit, limit // 2, limit // 6):
        page = read(path, lines=lines, grep=grep, max_bytes=room, final=final, redactor=redactor)
        if _json_bytes(page.lines) <= limit:
            break
    return page


def _read_file(
    files: LogFiles,
    run: FlowRun,
    redactor: Redactor,
    *,
    lines: int,
    cursor: str | None,
    grep: str | None,
) -> JobLogs:
    limit = page_bytes(lines)
    ended = run.state.job_state.is_terminal
    # JSON makes a log longer; only the encoding shows by how much.
    for room in (limit, limit // 2, limit // 6):
        if cursor:
            place = logs.decode_cursor(cursor)
            part = _read_on(
                files, place, redactor, lines=lines, grep=grep, max_bytes=room, ended=ended
            )
        else:
            page = logs.read_tail(
                files.last, lines=lines, grep=grep, max_bytes=room, final=ended, redactor=redactor
            )
            part = _Part(page, LogCursor(files.attempt, page.next_offset))
        if _json_bytes(part.page.lines) <= limit:
            break
    page = part.page
    notes = [page.note] if page.note else []
    if page.cut_bytes:
        notes.append(f"{page.cut_bytes:,} bytes were cut; the whole log is at {files.last}")
    elif page.truncated:
        notes.append(f"earlier lines were left out; the whole log is at {files.last}")
    return _answer(
        run,
        page.lines,
        next_cursor=logs.encode_cursor(part.cursor),
        at_end=ended and page.at_eof and part.cursor.attempt >= files.attempt,
        notes=notes,
    )


def _read_on(
    files: LogFiles,
    place: LogCursor,
    redactor: Redactor,
    *,
    lines: int,
    grep: str | None,
    max_bytes: int,
    ended: bool,
) -> _Part:
    """Read from a place on, and continue in the logs of later attempts."""
    if place.attempt > files.attempt:
        if place.attempt > files.attempt + 1:
            raise InvalidArgument(
                "cursor belongs to another job", "Leave it out to read the tail of the log"
            )
        # Prefect has the next attempt, which has not begun.
        return _Part(LogPage(lines=[], next_offset=place.offset, at_eof=True), place)
    found: list[str] = []
    attempt, offset = place.attempt, place.offset
    while True:
        page = logs.read_from(
            files.of_attempt(attempt),
            offset,
            lines=lines - len(found),
            grep=grep,
            max_bytes=max_bytes - _json_bytes(found),
            final=ended or attempt < files.attempt,
            redactor=redactor,
        )
        found += page.lines
        offset = page.next_offset
        full = len(found) >= lines or _json_bytes(found) >= max_bytes
        if page.at_eof and attempt < files.attempt:
            attempt, offset = attempt + 1, 0
            if not full:
                continue
            page = page.model_copy(update={"at_eof": False})
        return _Part(page.model_copy(update={"lines": found}), LogCursor(attempt, offset))


def page_bytes(lines: int) -> int:
    """Limit of a log, as JSON, in an answer of so many lines."""
    return min(_BYTES * max(lines, DEFAULT_LINES) // DEFAULT_LINES, _MOST_BYTES)


def _json_bytes(lines: list[str]) -> int:
    return len(json.dumps("\n".join(lines), ensure_ascii=False).encode())


def _answer(
    run: FlowRun,
    lines: list[str],
    *,
    next_cursor: str,
    at_end: bool,
    notes: list[str],
    log_path: str | None = None,
) -> JobLogs:
    count = f"{len(lines)} line{'s' * (len(lines) != 1)} of {run.name} ({run.state.job_state})"
    end = "; the log is at its end" if at_end else ""
    return JobLogs(
        summary="; ".join([count + end, *notes]),
        job_id=run.id,
        lines_returned=len(lines),
        logs="\n".join(lines),
        next_cursor=next_cursor,
        at_end=at_end,
        log_path=log_path or run.labels.log_path,
    )
