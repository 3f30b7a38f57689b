"""Lists the newest jobs, even if clocks differ, without planned runs of schedules."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from flows.core.errors import InvalidArgument
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import Artifact, FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.cursors import ListPlace, decode_list, encode_list, place_after
from mcp_server.services.families.listing import Families
from mcp_server.services.jobs.job_filter import EVERY_JOB, JobFilter
from mcp_server.services.jobs.results import JobList
from mcp_server.services.jobs.status import job_row

_CLOCKS_DIFFER: Final = timedelta(seconds=2)
"""How far a Prefect server's clock may be ahead before its jobs count as future ones."""
_LOOK_SECONDS: Final = 2.0
"""How long one call looks for jobs by what Prefect has no filter of."""


class _Found(NamedTuple):
    """The jobs of a page.

    Attributes:
        runs: The jobs.
        looked_at: How many jobs were read for them.
        rest: Where the next page begins; None: there is none.
    """

    runs: list[FlowRun]
    looked_at: int
    rest: ListPlace | None


class JobLister:
    """Lists jobs page by page.

    Args:
        gateway: Prefect's API.
        now: The clock.
        monotonic: The clock that limits how long one call looks.
    """

    def __init__(
        self,
        gateway: PrefectGateway,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gateway = gateway
        self._families = Families(gateway)
        self._now = now
        self._monotonic = monotonic

    async def read_page(self, wanted: JobFilter, *, limit: int, cursor: str | None) -> JobList:
        """List the jobs that match a filter, newest first.

        Args:
            wanted: The filter.
            limit: Jobs to return at most.
            cursor: Where an earlier call ended; it keeps that call's filter.

        Raises:
            InvalidArgument: The cursor is none, or belongs to another filter.
        """
        place, kept = decode_list(cursor)
        if kept is not None:
            wanted = _same_filter(wanted, kept)
        now = self._now()
        found = await self._find(wanted, place, limit=limit, now=now)
        shown = await self._artifacts(found.runs)
        costs = await self._families.costs(found.runs, now=now)
        is_cut = len(found.runs) < limit and found.rest is not None
        more = f" of the {found.looked_at} looked at" if is_cut else ""
        more += ", and there are more." if found.rest else "."
        return JobList(
            summary=f"{len(found.runs)}{wanted.kind} job{'s' * (len(found.runs) != 1)}"
            f"{wanted.words_but_status}{more}",
            jobs=[
                job_row(run, shown.get(run.id), now=now, cost=costs.get(run.id))
                for run in found.runs
            ],
            next_cursor=encode_list(found.rest, wanted.as_json()) if found.rest else None,
        )

    async def _find(
        self, wanted: JobFilter, place: ListPlace | None, *, limit: int, now: datetime
    ) -> _Found:
        """Read pages until enough jobs match; Prefect filters by all but the model."""
        size = MAX_PAGE - 1 if wanted.model else limit
        deadline = self._monotonic() + _LOOK_SECONDS
        found: list[FlowRun] = []
        looked_at = 0
        while True:
            runs = await self._read(wanted, place, limit=size + 1, now=now)
            page, more = runs[:size], len(runs) > size
            for number, run in enumerate(page, start=1):
                if wanted.has_name_of(run) and wanted.has_model_of(run):
                    found.append(run)
                if len(found) == limit and number < len(page):
                    page, more = page[:number], True
                    break
            looked_at += len(page)
            place = place_after(page, place) if page else place
            if not more:
                return _Found(found, looked_at, None)
            if len(found) == limit or not wanted.model or self._monotonic() > deadline:
                return _Found(found, looked_at, place)

    async def _read(
        self, wanted: JobFilter, place: ListPlace | None, *, limit: int, now: datetime
    ) -> list[FlowRun]:
        asked = RunFilter(
            states=wanted.states,
            tags=wanted.tags,
            name_like=wanted.name or None,
            before=place.before if place else None,
            after=wanted.after,
            excluded_ids=place.seen if place else (),
        )
        # Planned runs of schedules would come first and hide all jobs.
        if wanted.status == JobState.SCHEDULED:
            return await self._gateway.filter_runs(asked, limit=limit)
        return await newest_jobs(self._gateway, asked, now=now, limit=limit)

    async def _artifacts(self, runs: Sequence[FlowRun]) -> dict[str, Artifact]:
        """Read the progress artifacts of jobs, which have what they used."""
        ids = [run.id for run in runs if run.start_time is not None]
        if not ids:
            return {}
        found = await self._gateway.read_artifacts(ids, artifact_type="progress")
        # The last updated one of a job comes first.
        return {one.flow_run_id: one for one in reversed(found) if one.flow_run_id}


def _same_filter(wanted: JobFilter, kept: str) -> JobFilter:
    """Return the filter that a cursor keeps.

    Raises:
        InvalidArgument: The call has another one.
    """
    before = JobFilter.of_json(kept)
    if wanted not in (EVERY_JOB, before) and replace(wanted, after=before.after) != before:
        raise InvalidArgument(
            "cursor belongs to a list with other filters",
            "Give the same filters again, or none, or leave cursor out to start again",
        )
    return before


async def newest_jobs(
    gateway: PrefectGateway, wanted: RunFilter, *, now: datetime, limit: int
) -> list[FlowRun]:
    """Read the jobs that match, the latest expected start first.

    Each future time of a schedule is a run that waits in Prefect. After a clock was set back, jobs
    have future times, too: filters that exclude runs of schedules find them.

    Args:
        gateway: Prefect's API.
        wanted: Which jobs; its `before` is where an earlier page ended.
        now: This moment.
        limit: Jobs at most.
    """
    due = now + _CLOCKS_DIFFER
    if wanted.before is not None and wanted.before <= due:
        return await gateway.filter_runs(wanted, limit=limit)
    questions = [replace(wanted, before=due), *_ahead(wanted, due, gateway.deployment_name)]
    pages = await asyncio.gather(
        *(gateway.filter_runs(question, limit=limit) for question in questions)
    )
    found = {run.id: run for page in pages for run in page}
    return sorted(found.values(), key=lambda run: run.expected_start_time, reverse=True)[:limit]


def _ahead(wanted: RunFilter, due: datetime, deployment_name: str) -> list[RunFilter]:
    """Filters of jobs with future times: those that started once, and those without a schedule."""
    ahead = replace(wanted, after=max(due, wanted.after or due))
    states = wanted.states
    filters = [replace(ahead, leaves_out_planned=True)]
    if states is None or JobState.SCHEDULED in states:
        planned = frozenset({JobState.SCHEDULED})
        filters.append(replace(ahead, states=planned, deployment_name=deployment_name))
    return filters
