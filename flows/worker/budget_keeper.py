"""Shows what a pool spends, warns of it, sends a daily digest, and ends jobs at its limit."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client

from flows.core import names
from flows.core.budget.budgets import BudgetReport, Budgets
from flows.core.budget.decision import WARN_SHARE
from flows.core.stopwatch import Instant
from flows.job.ledger import Books, Ledger, close_days, day_of
from flows.job.runtime import Runtime
from flows.job.spending_report import describe, page_of, report_of

_LATE: Final = time(23, 59, 59)
_SECONDS: Final = 15.0
_SELDOM_SECONDS: Final = 300.0
"""How often a worker looks whether a budget was set, through another worker."""


class BudgetKeeper:
    """Looks at the budgets of a pool now and then.

    Each look depends on what Prefect holds alone, so any number of workers may do it.

    Args:
        client: Prefect's API.
        pool: The work pool.
        runtime: Takes the runs that must end.
        logger: The worker's log.
        now: The clocks.
    """

    def __init__(
        self,
        client: PrefectClient,
        pool: str,
        runtime: Runtime,
        logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
        *,
        now: Callable[[], Instant] = Instant.now,
    ) -> None:
        self._client = client
        self._pool = pool
        self._runtime = runtime
        self._logger = logger
        self._now = now
        self._ledger = Ledger(client, pool)
        self._shown = ""
        self._artifact_id: UUID | None = None
        self._warned: set[tuple[str, str]] = set()
        self._digest_day: date | None = None

    async def follow(self, guard: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        """Look for ever; `guard` makes a look unable to fail."""
        while True:
            self._runtime.budgets_changed.clear()
            await guard(self.look)()
            seconds = _SECONDS if self._shown else _SELDOM_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(self._runtime.budgets_changed.wait(), seconds)

    async def look(self) -> None:
        """Look once."""
        budgets = await self._ledger.budgets()
        if not (budgets.budgets or self._shown):
            return
        now = self._now()
        today = day_of(now)
        books = await self._ledger.books(budgets.budgets, today=today)
        report = report_of(self._pool, budgets, books, now)
        await self._show(page_of(report), report.summary)
        await self._end_jobs(budgets, books, now)
        await self._warn(report, today)
        await self._digest(budgets, now)
        await self._close(books, today)
        if not budgets.budgets:
            self._shown = ""

    async def _show(self, page: str, description: str) -> None:
        if page == self._shown:
            return
        if self._artifact_id is None:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[names.BUDGET_ARTIFACT]))
            found = await self._client.read_artifacts(artifact_filter=wanted, limit=1)
            self._artifact_id = found[0].id if found else None
        if self._artifact_id is None:
            made = await self._client.create_artifact(
                ArtifactCreate(
                    key=names.BUDGET_ARTIFACT,
                    type="markdown",
                    data=page,
                    description=description,
                )
            )
            self._artifact_id = made.id
        else:
            await self._client.update_artifact(
                self._artifact_id, ArtifactUpdate(data=page, description=description)
            )
        self._shown = page

    async def _end_jobs(self, budgets: Budgets, books: Books, now: Instant) -> None:
        """Have the jobs ended that spend although their budget is used up."""
        active = set(self._runtime.cancels)
        over: dict[UUID, str] = {}
        for budget in budgets.budgets:
            nano, gpu_ms, _ = budget.limits.in_units
            spent = books.used(budget, now).spent
            is_used_up = (nano is not None and spent.nanodollars >= nano > 0) or (
                gpu_ms is not None and spent.gpu_ms >= gpu_ms > 0
            )
            if not is_used_up:
                continue
            why = f"the {budget.words} is used up ({describe(budget, spent)})"
            for entry in books.entries:
                counts = budget.covers(entry.schedule) and entry.ended_at is None
                if counts and entry.run.id in active and _spends(entry.account.price, nano, gpu_ms):
                    over[entry.run.id] = why
        self._runtime.over_budget = over

    async def _warn(self, report: BudgetReport, today: date) -> None:
        for row in report.budgets:
            share = (row.percent or 0.0) / 100
            if not row.limits.are_set or share < WARN_SHARE:
                continue
            kind = "over" if share >= 1 else "near"
            start = row.period.start(today)
            if (mark := (f"{row.scope}/{row.period}/{start}", kind)) in self._warned:
                continue
            self._warned.add(mark)
            summary = (
                f"{row.percent:.0f} % of the {row.scope} budget, period {row.period}, is spent"
            )
            self._logger.warning("%s", summary)
            key = "/".join((self._pool, *mark, row.limits.model_dump_json()))
            await self._send(names.BUDGET_EVENT, kind, summary, report, key=key)

    async def _digest(self, budgets: Budgets, now: Instant) -> None:
        """Send yesterday's digest on the first look of a day."""
        was, self._digest_day = self._digest_day, day_of(now)
        if was is None or was >= self._digest_day:
            return
        yesterday = self._digest_day - timedelta(days=1)
        books = await self._ledger.books(budgets.budgets, today=yesterday)
        then = now._replace(wall=datetime.combine(yesterday, _LATE, UTC).timestamp())
        report = report_of(self._pool, budgets, books, then)
        key = f"{self._pool}/digest/{yesterday}"
        await self._send(names.BUDGET_DIGEST_EVENT, "digest", report.summary, report, key=key)

    async def _send(
        self, event: str, kind: str, summary: str, report: BudgetReport, *, key: str
    ) -> None:
        # The id follows from what happened, so that two workers send one event.
        sent = Event(
            id=uuid5(NAMESPACE_URL, f"{event}/{key}"),
            event=event,
            resource=Resource(
                {
                    "prefect.resource.id": f"oumi-flows.budget.{self._pool}",
                    "prefect.resource.name": f"Budget of {self._pool}",
                    "oumi.budget": kind,
                }
            ),
            payload={"summary": summary, "report": report.model_dump(mode="json")},
        )
        try:
            async with get_events_client() as client:
                await client.emit(sent)
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            self._logger.debug("The budget's event was not sent: %r", error)

    async def _close(self, books: Books, today: date) -> None:
        """Close the days before yesterday: the account no longer needs their runs."""
        until = (today - timedelta(days=1)).isoformat()
        if books.closed.until >= until:
            return
        whole = Books(books.closed, await self._ledger.entries(since=books.closed.until))
        closed = close_days(whole, until=until, today=today)
        if closed != books.closed:
            await self._ledger.keep_closed(closed)


def _spends(price: float | None, nano: int | None, gpu_ms: int | None) -> bool:
    """Whether a job counts for a limit that there is."""
    return gpu_ms is not None or (nano is not None and price is not None)
