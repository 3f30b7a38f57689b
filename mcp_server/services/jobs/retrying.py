"""Starts another attempt of a job that has ended."""

from collections.abc import Iterable

from flows.core.errors import Conflict
from flows.core.prefect_states import PREFECT_STATE, PrefectState, attempts_over
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.services.families.listing import Families
from mcp_server.services.jobs.external import adopted_job


class Retrier:
    """Requests further attempts of jobs.

    Args:
        gateway: Prefect's API.
        families: The parts of pipelines and sweeps.
    """

    def __init__(self, gateway: PrefectGateway, families: Families) -> None:
        self._gateway = gateway
        self._families = families

    async def request(self, run: FlowRun, *, resume: bool) -> None:
        """Request another attempt of a job that failed, crashed or was cancelled.

        Args:
            run: The job.
            resume: Continue from the last whole checkpoint instead of the beginning.

        Raises:
            Conflict: The job was adopted, has not ended, or has succeeded.
        """
        await self._refuse_pointless(run)
        attempt = _next_attempt(run, await self._gateway.read_states(run.id))
        changes = RunLabels()
        if not resume:
            changes = changes.with_changes(RunLabels(fresh_attempt=attempt))
        if run.labels.force_cancel:
            changes = changes.with_changes(RunLabels(force_cancel=False))
        if changes.model_fields_set:
            await self._gateway.patch_labels(run.id, changes)
        after = await self._gateway.set_state(
            run.id,
            PREFECT_STATE[JobState.RETRYING],
            message=f"Attempt {attempt} was requested.",
            repeatable=False,
        )
        if after.job_state.is_terminal:
            raise Conflict(
                f"Prefect refused to retry {run.name}; it is {after.job_state}",
                "Start a new job with run_oumi_job",
            )
        await self._gateway.patch_labels(run.id, RunLabels(attempt=attempt))

    async def _refuse_pointless(self, run: FlowRun) -> None:
        if adopted_job(run) is not None:
            raise Conflict(
                f"{run.name} was adopted, so there is no config to launch it from",
                "Start a new job with run_oumi_job",
            )
        state = run.state.job_state
        if not state.is_terminal:
            raise Conflict(
                f"{run.name} is {state}, so it cannot be retried",
                "Wait for it with wait_for_job or end it with cancel_job",
            )
        retries_parts = run.has_parts and await self._families.has_failed_parts(run)
        if state is JobState.SUCCEEDED and not retries_parts:
            raise Conflict(
                f"{run.name} has succeeded, so there is nothing to retry",
                "Start a new job with run_oumi_job",
            )


def _next_attempt(run: FlowRun, states: Iterable[RunState]) -> int:
    """Number the next attempt of a job that has ended, as its flow will number it.

    Args:
        run: The job.
        states: Every state it has been in, oldest first.
    """
    over = attempts_over(PrefectState(state.type, state.name) for state in states)
    return over + 1 - run.labels.attempts_taken_back
