"""What Prefect knows of the spending of a work pool: its budgets, and the accounts of its runs.

The account of a pool is the sum of the accounts on the runs: nothing is counted twice, and no crash
loses an amount. A launch writes its reservation, then reads all of them again. So of two
launches at once at least one sees both. A concurrency limit of Prefect lets them take turns.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    VariableCreate,
    VariableUpdate,
)
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists
from pydantic import ValidationError

from flows.core import names
from flows.core.budget.account import Account, Used
from flows.core.budget.budgets import (
    Budget,
    Budgets,
    ClosedDays,
    Period,
    budgets_variable,
    spent_variable,
)
from flows.core.errors import InvalidConfig
from flows.core.models import Value
from flows.core.prefect_states import PREFECT_STATE, STATE_OF_NAME, TERMINAL_TYPES
from flows.core.run_labels import RunLabels
from flows.core.stopwatch import Instant
from flows.job.prefect_calls import patiently, read_all_runs, state_of

T = TypeVar("T", bound=Value)

_TURN: Final = "oumi-flows-budget"
_TURN_SECONDS: Final = 30.0
"""A turn whose holder died is over after this time."""
_LOCKED: Final = 423
"""Prefect's status code where a concurrency limit has no free slot."""
_PAUSE_SECONDS: Final = 0.1
_PLANNED: Final = "Scheduled"
_LIVE_NAMES: Final = sorted(
    {
        state.name
        for state in (*PREFECT_STATE.values(), *STATE_OF_NAME)
        if state.type not in TERMINAL_TYPES
    }
    - {_PLANNED}
    | {"Submitting", "Paused", "Suspended"}
)
"""States of jobs that have begun and not ended; schedules plan many that have not begun."""


class Entry(NamedTuple):
    """The account of one run.

    Attributes:
        ended_at: When the run ended; None: it has not.
    """

    run: FlowRun
    account: Account
    schedule: str | None
    ended_at: Instant | None

    def used(self, now: Instant) -> Used:
        """What all its attempts used."""
        return self.account.used(now, ended_at=self.ended_at)

    def used_of(self, budget: Budget, now: Instant, *, today: date, since: str) -> Used:
        """What its attempts since a day used of a budget."""
        if not budget.covers(self.schedule):
            return Used()
        return self.account.used(
            now,
            ended_at=self.ended_at,
            counts=lambda day: day >= since and budget.period.counts(day, today),
        )


class Books(NamedTuple):
    """All that counts for the budgets of a pool."""

    closed: ClosedDays
    entries: Sequence[Entry]

    def used(self, budget: Budget, now: Instant, *, but: UUID | None = None) -> Used:
        """What was used of a budget.

        Args:
            budget: The budget.
            now: The clocks.
            but: A run that does not count.
        """
        today = day_of(now)
        total = Used(self.closed.amount(budget, today))
        for entry in self.entries:
            if entry.run.id != but:
                total = total.plus(entry.used_of(budget, now, today=today, since=self.closed.until))
        return total


class Ledger:
    """Reads and writes what belongs to the budgets of a pool.

    Args:
        client: Prefect's API.
        pool: The work pool.
    """

    def __init__(self, client: PrefectClient, pool: str) -> None:
        self._client = client
        self._pool = pool

    async def budgets(self) -> Budgets:
        """Read the budgets; one call."""
        found = await self._read(budgets_variable(self._pool), Budgets)
        return found or Budgets()

    async def keep_budgets(self, budgets: Budgets) -> None:
        """Write the budgets."""
        await self._write(budgets_variable(self._pool), budgets)

    async def read_closed(self) -> ClosedDays:
        """Read what was spent on closed days."""
        return await self._read(spent_variable(self._pool), ClosedDays) or ClosedDays()

    async def keep_closed(self, closed: ClosedDays) -> None:
        """Write what was spent on closed days."""
        await self._write(spent_variable(self._pool), closed)

    async def books(self, budgets: Iterable[Budget], *, today: date) -> Books:
        """Read all that counts for some budgets: the jobs that live, or ended since their start."""
        closed = await self.read_closed()
        starts = [budget.period.start(today) for budget in budgets]
        since = max(min(starts, default=today.isoformat()), closed.until)
        return Books(closed, await self.entries(since=since))

    async def entries(self, *, since: str) -> list[Entry]:
        """Read the accounts of the pool's jobs that live, or ended on this day or later."""
        state = FlowRunFilterState(name=FlowRunFilterStateName(any_=_LIVE_NAMES))
        filters = FlowRunFilter(state=state)
        if since:
            start = datetime.fromisoformat(since).replace(tzinfo=UTC)
            ended = FlowRunFilterEndTime.model_validate({"after_": start})
            # One query: a job that is retried, or ends, between two would be in neither.
            filters = FlowRunFilter.model_validate(
                {"operator": "or_", "state": state, "end_time": ended}
            )
        else:
            filters = FlowRunFilter()
        runs = await patiently(
            lambda: read_all_runs(
                self._client,
                flow_filter=FlowFilter(name=FlowFilterName(any_=[names.FLOW_NAME])),
                flow_run_filter=filters,
                sort=FlowRunSort.ID_DESC,
            )
        )
        return [one for one in read_entries(runs) if one.account.pool == self._pool]

    async def parts(self, parent: str) -> list[Entry]:
        """Read the accounts of the jobs of a pipeline or a sweep."""
        ours = FlowRunFilterParentFlowRunId(any_=[UUID(parent)])
        runs = await patiently(
            lambda: read_all_runs(
                self._client, flow_run_filter=FlowRunFilter(parent_flow_run_id=ours)
            )
        )
        return read_entries(runs)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn among all workers; without one after a while, go on.

        A turn makes it likely that exactly one of several launches gets what is left. That no two
        do follows from the second look of each, not from the turn.
        """
        has_turn = await self._take_turn()
        try:
            yield
        finally:
            if has_turn:
                with suppress(httpx.HTTPError):
                    await self._client.release_concurrency_slots([_TURN], 1, 0.1)

    async def _take_turn(self) -> bool:
        deadline = asyncio.get_running_loop().time() + _TURN_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            try:
                answer = await self._client.increment_concurrency_slots([_TURN], 1, "concurrency")
                if answer.json():
                    return True
                limit = GlobalConcurrencyLimitCreate(
                    name=_TURN, limit=1, slot_decay_per_second=1 / _TURN_SECONDS
                )
                with suppress(ObjectAlreadyExists):
                    await self._client.create_global_concurrency_limit(limit)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != _LOCKED:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS * (1 + random.random()))  # noqa: S311
        return False

    async def _read(self, name: str, shape: type[T]) -> T | None:
        variable = await patiently(lambda: self._client.read_variable_by_name(name))
        try:
            return None if variable is None else shape.model_validate(variable.value)
        except ValidationError as error:
            raise InvalidConfig(
                f"Prefect's variable {name} does not hold what oumi-flows wrote",
                "Delete it in the Prefect UI, and set the budgets again with `oumi-flows budget`",
            ) from error

    async def _write(self, name: str, value: Value) -> None:
        content = value.model_dump(mode="json", exclude_defaults=True)
        try:
            await self._client.create_variable(VariableCreate(name=name, value=content))
        except ObjectAlreadyExists:
            await self._client.update_variable(VariableUpdate(name=name, value=content))


def day_of(now: Instant) -> date:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(now.wall, UTC).date()


def close_days(books: Books, *, until: str, today: date) -> ClosedDays:
    """Add up the days before `until` on which every attempt has ended.

    It depends on the accounts alone: two workers that close the same days write the same.
    """
    closed = books.closed
    running = [
        one.day
        for entry in books.entries
        for one in entry.account.bookings
        if entry.ended_at is None and not one.ended
    ]
    until = min([until, *running])
    if until <= closed.until:
        return closed
    days = {day: dict(by_scope) for day, by_scope in closed.days.items()}
    for entry in books.entries:
        scopes = ["pool", *([f"schedule:{entry.schedule}"] if entry.schedule else [])]
        for day in {one.day for one in entry.account.bookings}:
            if not closed.until <= day < until:
                continue
            spent = entry.account.used(
                Instant("", 0.0, 0.0), ended_at=entry.ended_at, counts=day.__eq__
            ).spent
            for scope in scopes:
                _add(days.setdefault(day, {}), scope, spent.nanodollars, spent.gpu_ms, spent.jobs)
    before = dict(closed.before)
    month = Period.MONTH.start(today)
    for day in [day for day in days if day < month]:
        for scope, amounts in days.pop(day).items():
            _add(before, scope, *amounts)
    return ClosedDays(until=until, days=days, before=before)


def _add(by_scope: dict[str, list[int]], scope: str, *amounts: int) -> None:
    known = by_scope.get(scope, [0, 0, 0])
    by_scope[scope] = [old + new for old, new in zip(known, amounts, strict=True)]


async def keep_accounts(
    client: PrefectClient, pool: str, ended_before: datetime, *, dry_run: bool
) -> datetime:
    """Close the days of runs that are removed; return the time before which runs may go.

    Without budgets nothing is kept. The runs of a day that is still open stay.
    """
    ledger = Ledger(client, pool)
    if not (await ledger.budgets()).budgets:
        return ended_before
    today = datetime.now(UTC).date()
    closed = await ledger.read_closed()
    until = min(ended_before.astimezone(UTC).date() + timedelta(days=1), today).isoformat()
    if closed.until < until:
        books = Books(closed, await ledger.entries(since=closed.until))
        closed = close_days(books, until=until, today=today)
        if not dry_run:
            await ledger.keep_closed(closed)
    if not closed.until:
        return ended_before
    return min(ended_before, datetime.fromisoformat(closed.until).replace(tzinfo=UTC))


def read_entries(runs: Iterable[FlowRun]) -> list[Entry]:
    """Read the accounts of runs that have one."""
    found: list[Entry] = []
    for run in runs:
        labels = RunLabels.read(run.labels)
        if labels.account is None:
            continue
        is_over = state_of(run).is_terminal and run.end_time is not None
        ended_at = Instant("", 0.0, run.end_time.timestamp()) if is_over and run.end_time else None
        found.append(Entry(run, labels.account, labels.schedule, ended_at))
    return found
