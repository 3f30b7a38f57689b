"""Notifies subscribers that a job changed. Asks Prefect only while there are subscribers."""

import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import anyio

from flows.core.errors import OumiFlowsError
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import ENDED, LIVE
from mcp_server.services.jobs.listing import newest_jobs

RUNNING_URI: Final = "jobs://running"
COMPLETED_URI: Final = "jobs://completed"

_INTERVAL_SECONDS: Final = 1.0
_JOB_URI = re.compile(r"jobs://([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/logs)?")
_LIST_ROWS: Final = 100

logger = logging.getLogger(__name__)

Notify = Callable[[str], Awaitable[None]]
"""Notifies a subscriber that the resource with this URI changed."""


class JobWatcher:
    """Watches the resources that clients subscribe to.

    Args:
        gateway: Prefect's API.
        publish: Notifies the open `subscriptions/listen` streams of a change.
    """

    def __init__(self, gateway: PrefectGateway, *, publish: Notify) -> None:
        self._gateway = gateway
        self._publish = publish
        self._listened: Counter[str] = Counter()
        self._subscribers: dict[str, dict[object, Notify]] = {}
        self._seen: dict[str, object] = {}
        self._wanted = anyio.Event()

    @asynccontextmanager
    async def listening(self, uris: Iterable[str]) -> AsyncGenerator[None]:
        """Watch `uris` for a stream while it is open."""
        watched = list(uris)
        self._listened.update(watched)
        self._wanted.set()
        try:
            await self._remember(watched)
            yield
        finally:
            self._listened.subtract(watched)
            self._listened = +self._listened

    async def subscribe(self, uri: str, subscriber: object, notify: Notify) -> None:
        """Watch `uri` for a subscriber."""
        self._subscribers.setdefault(uri, {})[subscriber] = notify
        self._wanted.set()
        await self._remember([uri])

    def unsubscribe(self, uri: str, subscriber: object) -> None:
        """Stop watching `uri` for a subscriber."""
        self._subscribers.get(uri, {}).pop(subscriber, None)
        if not self._subscribers.get(uri):
            self._subscribers.pop(uri, None)

    def forget(self, subscriber: object) -> None:
        """Stop watching for a subscriber that is gone."""
        for uri in list(self._subscribers):
            self.unsubscribe(uri, subscriber)

    async def watch(self) -> None:
        """Poll the subscribed resources and notify of changes, until cancelled."""
        while True:
            uris = {*self._listened, *self._subscribers}
            self._seen = {uri: mark for uri, mark in self._seen.items() if uri in uris}
            if uris:
                try:
                    await self._look(uris)
                except OumiFlowsError as error:
                    logger.warning("Subscribed jobs were not polled: %s", error)
                await anyio.sleep(_INTERVAL_SECONDS)
            else:
                self._wanted = anyio.Event()
                await self._wanted.wait()

    async def _remember(self, uris: Iterable[str]) -> None:
        """Remember the state of `uris` at the subscription, to notify of later changes."""
        new = {uri for uri in uris if uri not in self._seen}
        with anyio.move_on_after(_INTERVAL_SECONDS), suppress(OumiFlowsError):
            self._seen = await self._marks(new) | self._seen

    async def _look(self, uris: set[str]) -> None:
        for uri, mark in (await self._marks(uris)).items():
            if uri in self._seen and self._seen[uri] != mark:
                await self._publish(uri)
                for notify in list(self._subscribers.get(uri, {}).values()):
                    await notify(uri)
            self._seen[uri] = mark

    async def _marks(self, uris: set[str]) -> dict[str, object]:
        """Read a mark of each resource; an equal mark means no change."""
        ids = {uri: match[1] for uri in uris if (match := _JOB_URI.fullmatch(uri))}
        marks: dict[str, object] = {}
        if ids:
            wanted = RunFilter(ids=tuple(sorted(set(ids.values()))))
            runs = await self._gateway.filter_runs(wanted, limit=MAX_PAGE)
            by_id = {run.id: _mark(run) for run in runs}
            marks |= {uri: by_id.get(run_id) for uri, run_id in ids.items()}
        for uri, states in ((RUNNING_URI, LIVE), (COMPLETED_URI, ENDED)):
            if uri in uris:
                runs = await newest_jobs(
                    self._gateway,
                    RunFilter(states=states),
                    now=datetime.now(UTC),
                    limit=_LIST_ROWS,
                )
                marks[uri] = [_mark(run) for run in runs]
        return marks


def _mark(run: FlowRun) -> tuple[str, str, str]:
    return run.id, run.state.type, run.state.name
