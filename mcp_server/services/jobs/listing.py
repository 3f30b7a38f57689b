"""Lists the newest jobs, even if clocks differ, without planned runs of schedules."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter

_CLOCKS_DIFFER: Final = timedelta(seconds=2)
"""How far a Prefect server's clock may be ahead before its jobs count as future ones."""


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
    ahead = replace(wanted, after=due)
    states = wanted.states
    filters = [replace(ahead, leaves_out_planned=True)]
    if states is None or JobState.SCHEDULED in states:
        planned = frozenset({JobState.SCHEDULED})
        filters.append(replace(ahead, states=planned, deployment_name=deployment_name))
    return filters
