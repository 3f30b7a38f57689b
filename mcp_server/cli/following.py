"""Following a job: to its end, or along its log."""

import asyncio
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from flows.core.errors import EngineUnavailable
from flows.core.models import JobStatus
from flows.core.states import JobState
from mcp_server.cli.output import Output
from mcp_server.services.jobs.results import JobLogs
from mcp_server.services.jobs.service import JobService, Until
from mcp_server.services.jobs.status import progress_words

_LINE_SECONDS: Final = 10.0
_LONGEST_LINE_SECONDS: Final = 600.0
"""Where no bar can be drawn: how soon progress alone is worth a line, at first and at the most."""
_PAGE_LINES: Final = 2000
_FULL_PAGE: Final = 10_000
"""Characters; after a page as long as this there is likely to be more already."""
_SHORTEST_PAUSE: Final = 0.3
_LONGEST_PAUSE: Final = 1.0

Show = Callable[[JobStatus], None]


class Patience:
    """Keeps asking an engine that stopped answering: jobs do not need it to run.

    Args:
        output: Where a person sees that the engine is gone.
        seconds: How long to keep asking.
        pause_seconds: How long to wait before asking again.
        now: A clock, in seconds.
    """

    def __init__(
        self,
        output: Output,
        *,
        seconds: float = 600.0,
        pause_seconds: float = 2.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._seconds = seconds
        self._pause_seconds = pause_seconds
        self._now = now
        self._has_answered = False
        self._gone_since: float | None = None

    def note_answer(self) -> None:
        """Take note that the engine answered."""
        self._has_answered = True
        self._gone_since = None

    async def bear(self, error: EngineUnavailable) -> None:
        """Wait before the next try.

        Raises:
            EngineUnavailable: It never answered, or has not for `seconds`.
        """
        if not self._has_answered:
            raise error
        if self._gone_since is None:
            self._gone_since = self._now()
            self._output.note(f"{error.what}; the job keeps running. Asking again.", style="yellow")
        elif self._now() - self._gone_since > self._seconds:
            raise error
        await asyncio.sleep(self._pause_seconds)


async def watch(jobs: JobService, job_id: str, *, show: Show, patience: Patience) -> JobStatus:
    """Show a job until it has ended.

    Returns:
        Its last status.
    """

    async def on_change(status: JobStatus) -> None:
        patience.note_answer()
        show(status)

    while True:
        try:
            return await jobs.wait(
                job_id, until=Until.DONE, timeout_seconds=math.inf, on_change=on_change
            )
        except EngineUnavailable as error:
            await patience.bear(error)


async def follow_log(
    jobs: JobService,
    page: JobLogs,
    *,
    grep: str | None,
    show: Callable[[JobLogs], None],
    patience: Patience,
) -> JobLogs:
    """Show what a job adds to its log after `page`, until the job and its log have ended.

    Returns:
        The last page.
    """
    pause = _SHORTEST_PAUSE
    while not page.at_end:
        is_full = page.lines_returned >= _PAGE_LINES or len(page.logs) >= _FULL_PAGE
        if not is_full:
            await asyncio.sleep(pause)
        before = page.next_cursor
        try:
            page = await jobs.logs(page.job_id, lines=_PAGE_LINES, cursor=before, grep=grep)
        except EngineUnavailable as error:
            await patience.bear(error)
            continue
        patience.note_answer()
        moved = page.next_cursor != before
        pause = _SHORTEST_PAUSE if moved else min(pause * 1.3, _LONGEST_PAUSE)
        show(page)
    return page


@contextmanager
def display_of(output: Output, *, as_json: bool) -> Generator[Show]:
    """Show statuses as a bar for a person, lines for a file, JSON for a program."""
    if as_json:
        yield output.json
    elif output.is_terminal:
        with output.bar() as bar:

            def draw(status: JobStatus) -> None:
                bar.show(
                    f"{status.name}: {status.state}",
                    status.progress.percent,
                    _words(status),
                    since_seconds=status.duration_seconds or 0.0,
                )

            yield draw
    else:
        yield Lines(output).show


class Lines:
    """A line for each change of state or health, and ever more seldom for progress alone.

    Args:
        output: Where they are written.
        now: A clock, in seconds.
    """

    def __init__(self, output: Output, *, now: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._now = now
        self._last: tuple[object, ...] | None = None
        self._written_at = 0.0
        self._pause_seconds = _LINE_SECONDS

    def show(self, status: JobStatus) -> None:
        """Write the line if one is due. The caller shows the end of the job."""
        parts = tuple(part.state for part in status.parts)
        stage = (status.state, status.attempt, status.reachable, status.health, parts)
        is_news = stage != self._last
        if status.is_done or not (is_news or self._now() - self._written_at >= self._pause_seconds):
            return
        self._pause_seconds = (
            _LINE_SECONDS if is_news else min(2 * self._pause_seconds, _LONGEST_LINE_SECONDS)
        )
        self._last = stage
        self._written_at = self._now()
        self._output.line(status.summary)


def _words(status: JobStatus) -> str:
    words = progress_words(status.progress)
    running = [part for part in status.parts if part.state == JobState.RUNNING]
    if status.parts:
        words.append(f"{len(status.parts)} jobs, {len(running)} running")
        words += [f"{part.name}: {part.note}" for part in running[:1]]
    if not status.reachable:
        words.append("not reachable")
    return ", ".join(words)
