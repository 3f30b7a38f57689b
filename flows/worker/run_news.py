"""News of flow runs from Prefect's events, so that a worker need not ask for them all the time."""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from logging import Logger, LoggerAdapter
from typing import Final
from uuid import UUID

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import Event

from flows.core.foreign_errors import first_line, note_defects

Subscribe = Callable[..., AbstractAsyncContextManager[AsyncIterable[Event]]]
"""Connects to a server's events, as Prefect's `get_events_subscriber` does."""
_RUN: Final = "prefect.flow-run."
_DUE: Final = frozenset(
    f"{_RUN}{name}" for name in ("Scheduled", "AwaitingRetry", "Retrying", "Resuming")
)
_ENDING: Final = frozenset(
    f"{_RUN}{name}" for name in ("Cancelling", "Cancelled", "Completed", "Failed", "Crashed")
)
_PAUSING: Final = frozenset(f"{_RUN}{name}" for name in ("Paused", "Suspended", "Resuming"))
_RUNNING: Final = f"{_RUN}Running"
_SPACING_SECONDS: Final = 0.2
"""Between two looks at news, so that a burst of it costs few."""
_PREFIXES: Final = (_RUN, "prefect.work-pool.", "prefect.work-queue.", "prefect.deployment.")


class Looks:
    """When to look at something that news tells of: at news, else seldom.

    Args:
        often: Seconds between two looks while there is no news to rely on.
        seldom: Seconds between two looks while there is.
        has_news: Whether there is.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *,
        often: float,
        seldom: float,
        has_news: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._often, self._seldom, self._has_news, self._clock = often, seldom, has_news, clock
        self._last = float("-inf")
        self._next: float | None = None
        self._news = asyncio.Event()

    def tell(self) -> None:
        """There is news: look at once, and again soon.

        Prefect may send an event before others can read what it tells of (prefect 3.9).
        """
        self._news.set()
        self.expect(self._often)

    def expect(self, seconds: float) -> None:
        """Look in so many seconds at the latest."""
        at = self._clock() + seconds
        self._next = at if self._next is None else min(self._next, at)

    def is_due(self) -> bool:
        """Whether to look now."""
        now = self._clock()
        interval = self._seldom if self._has_news() else self._often
        expected = self._next is not None and now >= self._next
        return self._news.is_set() or expected or now - self._last >= interval * 0.9

    @contextmanager
    def looking(self) -> Generator[None]:
        """Look in this block: news from its beginning on asks for another look.

        So does a look that fails, soon.
        """
        now = self._clock()
        self._last = now
        if self._next is not None and self._next <= now:
            self._next = None
        self._news.clear()
        try:
            yield
        except BaseException:
            self.expect(self._often)
            raise

    async def follow(self, look: Callable[[], Awaitable[object]]) -> None:
        """Look at all news for ever; `look` uses `looking`."""
        while True:
            await self._news.wait()
            await look()
            await asyncio.sleep(_SPACING_SECONDS)


class RunNews:
    """What the server's events say: that runs may be due, or that active ones are to end.

    Events are news and no more: what a run's state is, the server says. A server whose events do
    not come (they are off, or its websocket is closed) is asked as often as settings say.

    Args:
        is_active: Whether this worker executes the run of that id.
        is_paused: Whether that run is paused.
        often: Seconds between two looks while no events come.
        seldom: Seconds between two looks while they do.
        retry_seconds: Between two tries to connect.
        logger: The worker's log.
        subscribe: Connects to the server's events.
    """

    def __init__(
        self,
        *,
        is_active: Callable[[UUID], bool],
        is_paused: Callable[[UUID], bool],
        often: float,
        seldom: float,
        retry_seconds: float,
        logger: "Logger | LoggerAdapter[Logger]",
        subscribe: Subscribe = get_events_subscriber,
    ) -> None:
        self._subscribe = subscribe
        self._is_active = is_active
        self._is_paused = is_paused
        self._often = often
        self._retry_seconds = retry_seconds
        self._logger = logger
        self._is_connected = False
        self.due = Looks(often=often, seldom=seldom, has_news=lambda: self._is_connected)
        """Looks for runs that are due."""
        self.ends = Looks(often=often, seldom=seldom, has_news=lambda: self._is_connected)
        """Looks for active runs that are to end."""

    async def follow(self) -> None:
        """Follow the events for ever; connect again when the connection is lost."""
        wanted = EventFilter(event=EventNameFilter(prefix=list(_PREFIXES)))
        while True:
            with note_defects(self._note_loss):
                async with self._subscribe(wanted, reconnection_attempts=0) as events:
                    self._is_connected = True
                    self._tell_all()  # what came before does not come again
                    async for event in events:
                        self._tell(event)
            self._is_connected = False
            self._tell_all()
            await asyncio.sleep(self._retry_seconds)

    def _tell_all(self) -> None:
        self.due.tell()
        self.ends.tell()

    def _tell(self, event: Event) -> None:
        if event.event in _PAUSING and self._is_active(_run_of(event)):
            self.ends.tell()
        if event.event == _RUNNING and self._is_paused(_run_of(event)):
            self.ends.tell()
        if event.event in _ENDING:
            if self._is_active(_run_of(event)):
                self.ends.tell()
            self.due.expect(self._often)  # a run that waits for a limit
        if event.event in _DUE or not event.event.startswith(_RUN):
            self.due.tell()

    def _note_loss(self, error: Exception) -> None:
        if self._is_connected:
            self._logger.info("Prefect's events stopped: %s", first_line(error))


def _run_of(event: Event) -> UUID:
    return UUID(event.resource.id.removeprefix(_RUN))
