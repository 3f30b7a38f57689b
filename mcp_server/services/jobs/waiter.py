"""Waits for one or several jobs, and collects what happened to them meanwhile."""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import Field

from flows.core.errors import InvalidArgument
from flows.core.models import JobStatus
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.news import JobEvent, NewsReader, Place, short_id
from mcp_server.services.jobs.service import JobService, Until, is_reached
from mcp_server.services.jobs.wait_conditions import WaitCondition
from mcp_server.services.polls import Polls
from mcp_server.services.training.metrics import MetricsQuery, MetricsService

_METRICS_SECONDS: Final = 10.0
"""How often the worker is asked for the metrics of a job."""
_NAMED: Final = 5


class Mode(StrEnum):
    """Of how many jobs to wait for."""

    ANY = "any"
    ALL = "all"


class WaitAnswer(JobStatus):
    """The status of the job that ended the wait, and what happened to all of them.

    Attributes:
        events: What happened since the cursor, the oldest first.
        next_cursor: Acknowledges these events; pass it to the next call.
        waiting_for: Ids of the jobs that are not there yet.
    """

    events: list[JobEvent] = Field(default_factory=list[JobEvent])
    next_cursor: str | None = None
    waiting_for: list[str] = Field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to wait for.

    Attributes:
        references: Id, unique id prefix or name of each job.
        until: The state to wait for, without a condition.
        mode: Of how many of them to wait for.
        condition: What to wait for; empty: the state.
        cursor: Of an earlier answer.
    """

    references: Sequence[str]
    until: Until
    mode: Mode
    condition: str
    cursor: str | None

    @property
    def is_plain(self) -> bool:
        """Whether one job is waited for, until it reaches a state."""
        return len(self.references) == 1 and not self.condition.strip()


OnNews = Callable[[str, int, int], Awaitable[None]]
"""Called with a line of news, and how many of how many jobs are there."""


class JobWaiter:
    """Waits for jobs.

    Args:
        gateway: Prefect's API.
        jobs: Use cases of jobs.
        metrics: Reads metrics that no status has.
    """

    def __init__(self, gateway: PrefectGateway, jobs: JobService, metrics: MetricsService) -> None:
        self._gateway = gateway
        self._jobs = jobs
        self._metrics = metrics

    async def describe(
        self, status: JobStatus, run: FlowRun, *, until: Until, cursor: str | None = None
    ) -> WaitAnswer:
        """Add to the status of a job what happened to it since a cursor.

        Args:
            status: The status.
            run: The job's run.
            until: The state that is waited for.
            cursor: Of an earlier answer; None: from the beginning.

        Raises:
            InvalidArgument: The cursor is none.
        """
        news = NewsReader(self._gateway, Place.read(cursor))
        await self._look(news, [run])
        waiting = [] if is_reached(status.state, until) else [run.id]
        return _add_news(status, news, waiting)

    async def find(self, reference: str) -> FlowRun:
        """Read the run of a job.

        Raises:
            JobNotFound: There is no such job.
        """
        return await find_job(self._gateway, reference)

    async def wait(self, wanted: Wanted, *, timeout_seconds: float, on_news: OnNews) -> WaitAnswer:
        """Wait until any or all of some jobs are there, or the time is up.

        A job is there once it has reached the state, or meets the condition, or has ended. With
        `any` the wait ends for a job only until its event is acknowledged by a cursor.

        Args:
            wanted: What to wait for.
            timeout_seconds: How long to wait at most.
            on_news: Called with each change.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: The condition or the cursor cannot be read, or no job is named.
        """
        if not wanted.references:
            raise InvalidArgument("no job is named", "Give job_id or job_ids")
        place = Place.read(wanted.cursor)
        wait = _Wait(self._jobs, self._metrics, wanted, place)
        found = [await self.find(reference) for reference in wanted.references]
        runs = list({run.id: run for run in found}.values())
        news, polls = NewsReader(self._gateway, place), Polls()
        deadline = time.monotonic() + timeout_seconds
        while True:
            there = await wait.find_there(runs)
            before = len(news.events)
            await self._look(news, runs)
            for event in news.events[before:]:
                await on_news(event.text, len(there), len(runs))
            left = deadline - time.monotonic()
            if wait.is_over(runs, there) or left <= 0:
                break
            await polls.pause(at_most=left)
            runs = await self._read_again(runs)
        return await self._answer(runs, there, news, wait)

    async def _read_again(self, runs: Sequence[FlowRun]) -> list[FlowRun]:
        """Read runs again with one query; one that is not in the answer is asked for by itself."""
        ids = tuple(run.id for run in runs)
        found = await self._gateway.filter_runs(RunFilter(ids=ids), limit=MAX_PAGE)
        known = {run.id: run for run in found}
        return [known.get(run_id) or await self._gateway.read_run(run_id) for run_id in ids]

    async def _look(self, news: NewsReader, runs: Sequence[FlowRun]) -> None:
        """Collect the events of runs, and of the parts of pipelines and sweeps."""
        wholes = tuple(run.id for run in runs if run.has_parts)
        parts = (
            await self._gateway.filter_runs(RunFilter(parent_ids=wholes), limit=MAX_PAGE)
            if wholes
            else []
        )
        await news.look([*runs, *parts])

    async def _answer(
        self, runs: Sequence[FlowRun], there: Collection[str], news: NewsReader, wait: "_Wait"
    ) -> WaitAnswer:
        fresh = [run for run in runs if run.id in there and run.id in wait.fresh]
        status = await self._jobs.observe((fresh or list(runs))[0])
        waiting = [run.id for run in runs if run.id not in there]
        news.place.met |= {short_id(run_id) for run_id in there}
        summary = _summarise(runs, there, wait.values)
        return _add_news(status.model_copy(update={"summary": summary}), news, waiting)


class _Wait:
    """Decides which jobs are there."""

    def __init__(
        self,
        jobs: JobService,
        metrics: MetricsService,
        wanted: Wanted,
        place: Place,
    ) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._wanted = wanted
        text = wanted.condition
        self._condition = WaitCondition.read(text) if text.strip() else None
        self._acknowledged = Place(states=dict(place.states), met=set(place.met))
        self._metrics_at = 0.0
        self.fresh: set[str] = set()
        """Jobs that are there, and of which no cursor says so."""
        self.values: dict[str, str] = {}
        """What met the condition, in words, by job."""

    async def find_there(self, runs: Sequence[FlowRun]) -> set[str]:
        """Find the jobs that are there."""
        there: set[str] = set()
        asks = time.monotonic() >= self._metrics_at
        for run in runs:
            if await self._is_there(run, asks=asks):
                there.add(run.id)
        if asks:
            self._metrics_at = time.monotonic() + _METRICS_SECONDS
        self.fresh = {run.id for run in runs if run.id in there and not self._is_acknowledged(run)}
        return there

    def is_over(self, runs: Sequence[FlowRun], there: Collection[str]) -> bool:
        """Whether there is no more to wait for."""
        is_any = self._wanted.mode is Mode.ANY and bool(self.fresh)
        return is_any or len(there) == len(runs)

    def _is_acknowledged(self, run: FlowRun) -> bool:
        if short_id(run.id) not in self._acknowledged.met:
            return False
        # One that was retried and ended again is there once more.
        return not run.state.job_state.is_terminal or self._acknowledged.knows(run)

    async def _is_there(self, run: FlowRun, *, asks: bool) -> bool:
        if self._condition is None:
            return is_reached(run.state.job_state, self._wanted.until)
        if run.id in self.values:
            return True
        value = await self._value(run, self._condition, asks=asks)
        if self._condition.holds(value):
            shown = value if isinstance(value, str) else f"{value:.6g}"
            self.values[run.id] = f"{self._condition.name} {shown}"
            return True
        return run.state.job_state.is_terminal

    async def _value(
        self, run: FlowRun, condition: WaitCondition, *, asks: bool
    ) -> float | str | None:
        if not condition.is_of_metrics:
            return condition.value_of(await self._jobs.observe(run))
        if not asks or run.start_time is None:
            return None
        query = MetricsQuery(points=4)
        answer = await self._metrics.read([run.id], query, draw=False)
        found = {one.key: one.last.value for job in answer.jobs for one in job.keys}
        return found.get(condition.name)


def _add_news(status: JobStatus, news: NewsReader, waiting: list[str]) -> WaitAnswer:
    more = {
        "events": news.in_order(),
        "next_cursor": news.place.write(),
        "waiting_for": waiting,
    }
    return WaitAnswer.model_validate(status.model_dump() | more)


def _summarise(runs: Sequence[FlowRun], there: Collection[str], values: "dict[str, str]") -> str:
    words = [
        f"{run.name} is {run.state.job_state}"
        + (f" at {values[run.id]}" if run.id in values else "")
        for run in sorted(runs, key=lambda run: run.id not in there)
    ]
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{len(there)} of {len(runs)} jobs are there: {', '.join(words[:_NAMED])}{more}."
