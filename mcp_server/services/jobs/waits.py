"""A wait for a job that outlives every server: Prefect's history says whether it is over."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from flows.core.errors import JobAlreadyDone
from flows.core.models import JobStatus
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.cancelling import Canceller
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.service import JobService, Until
from mcp_server.services.jobs.waiter import JobWaiter


@dataclass(frozen=True)
class Wait:
    """A wait as it stands.

    Attributes:
        run: The job's run.
        status: The job's status; once the wait is over, with what happened to the job.
        ended_by: The state that ended the wait; None: it goes on.
    """

    run: FlowRun
    status: JobStatus
    ended_by: JobState | None


class JobWaits:
    """Reads and cancels what is waited for; keeps nothing in memory.

    Args:
        gateway: Prefect's API.
        jobs: Use cases of jobs.
        waiter: Adds to a status what happened to its job.
    """

    def __init__(self, gateway: PrefectGateway, jobs: JobService, waiter: JobWaiter) -> None:
        self._gateway = gateway
        self._jobs = jobs
        self._waiter = waiter
        self._canceller = Canceller(gateway)

    async def find(self, job_id: str) -> FlowRun:
        """Read the run of a job.

        Raises:
            JobNotFound: There is no such job.
        """
        return await find_job(self._gateway, job_id)

    async def look(self, run: FlowRun, *, until: Until, since: datetime) -> Wait:
        """Look at a wait.

        Args:
            run: The job's run, just read.
            until: The state that is waited for.
            since: Only states that the job had then or later count.
        """
        ended_by = await self._ended_by(run, until, since)
        status = await self._jobs.observe(run)
        if ended_by is not None:
            status = await self._waiter.describe(status, run, until=until)
        return Wait(run, status, ended_by)

    async def keep_answer(self, run: FlowRun, answer: str) -> None:
        """Keep with its run what a submission answered."""
        await self._gateway.patch_labels(run.id, RunLabels(submission=answer))

    async def cancel(self, run: FlowRun, *, until: Until, since: datetime) -> None:
        """Ask the job to end, unless the wait is over."""
        if await self._ended_by(run, until, since) is None:
            with suppress(JobAlreadyDone):
                await self._canceller.request(run, force=False)

    async def _ended_by(self, run: FlowRun, until: Until, since: datetime) -> JobState | None:
        """Find the first state that ends the wait: a retry later on must not revive it."""
        states = [run.state]
        if run.state.timestamp > since:
            history = await self._gateway.read_states(run.id)
            earlier = [state for state in history if since <= state.timestamp]
            states = [*sorted(earlier, key=lambda state: state.timestamp), run.state]
        reached = (state.job_state for state in states if _ends(state.job_state, until))
        return next(reached, None)


def _ends(state: JobState, until: Until) -> bool:
    # A job that is being cancelled ends the wait when it is confirmed gone.
    return state.is_terminal or (until is Until.RUNNING and state is JobState.RUNNING)
