"""Waiting for a job within a call."""

from typing import Annotated, Any, Final, TypeVar

from mcp.server.mcpserver import Context
from pydantic import Field

from flows.core.errors import EngineUnavailable
from flows.core.models import JobStatus
from mcp_server.services.families.submissions import FamilySubmission
from mcp_server.services.jobs.results import Submission
from mcp_server.services.jobs.service import JobService, Until
from mcp_server.services.jobs.status import progress_words
from mcp_server.services.jobs.waiter import JobWaiter, WaitAnswer, Wanted
from mcp_server.tasks.declared import declares_tasks
from mcp_server.tools.connections import wait_for_client

WAIT_SECONDS: Final = 25.0
"""Some clients cut a call at 30 s."""

Wait = Annotated[bool, Field(description="Wait, 25 s at most.")]

Started = TypeVar("Started", bound=Submission | FamilySubmission)


async def wait_in_call(
    jobs: JobService,
    ctx: Context[Any],
    job_id: str,
    *,
    until: Until = Until.DONE,
    timeout_seconds: float = WAIT_SECONDS,
) -> JobStatus:
    """Hold a call until a job reaches a state or the time is up; a task holds no call."""
    wait = jobs.wait(
        job_id,
        until=until,
        timeout_seconds=0 if declares_tasks(ctx.request_context) else timeout_seconds,
        on_change=Progress(ctx).report,
    )
    return await wait_for_client(ctx, wait)


async def wait_for_jobs(
    jobs: JobService,
    waiter: JobWaiter,
    ctx: Context[Any],
    wanted: Wanted,
    *,
    timeout_seconds: float,
) -> WaitAnswer:
    """Hold a call until jobs are there or the time is up."""
    if not wanted.is_plain:
        wait = waiter.wait(
            wanted, timeout_seconds=timeout_seconds, on_news=Progress(ctx).report_news
        )
        return await wait_for_client(ctx, wait)
    (reference,) = wanted.references
    status = await wait_in_call(
        jobs, ctx, reference, until=wanted.until, timeout_seconds=timeout_seconds
    )
    run = await waiter.find(status.job_id)
    return await waiter.describe(status, run, until=wanted.until, cursor=wanted.cursor)


async def wait_for_end(jobs: JobService, ctx: Context[Any], started: Started) -> Started:
    """Hold the call that started a job; return its answer with the job's state then."""
    if started.job_id is None or declares_tasks(ctx.request_context):
        return started
    try:
        status = await wait_in_call(jobs, ctx, started.job_id)
    except EngineUnavailable:  # The job is durable: its id matters more.
        return started
    return started.model_copy(update=news_of(status))


def news_of(status: JobStatus) -> dict[str, Any]:
    """Return the fields of a submission that change while its job runs."""
    return {"summary": status.summary, "state": status.state}


class Progress:
    """Sends the progress notifications of one call; their values always grow, as MCP demands."""

    def __init__(self, ctx: Context[Any]) -> None:
        self._ctx = ctx
        self._last = 0.0

    async def report(self, status: JobStatus) -> None:
        """Tell the client about a change."""
        progress = status.progress
        words = [status.state.value, *progress_words(progress)]
        # A change of state without a new step is reported with a value just above the last one.
        self._last = max(float(progress.step or 0), self._last + 0.001)
        total = float(progress.max_steps) if progress.max_steps else None
        await self._ctx.report_progress(self._last, total, ", ".join(words))

    async def report_news(self, text: str, there: int, total: int) -> None:
        """Tell the client what happened to one of several jobs."""
        self._last = max(float(there), self._last + 0.001)
        await self._ctx.report_progress(self._last, float(total), text)
