"""The `oumi-job` flow: one Oumi job, local or cloud, is one run of it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, ObjectNotFound

from flows.core.configs.clouds import is_local
from flows.core.models import JobHandle, JobRequest
from flows.core.names import FLOW_NAME
from flows.core.prefect_states import state_message
from flows.core.states import JobState
from flows.job.attempt import Attempt
from flows.job.outcome import Outcome, too_late_to_cancel
from flows.job.rejoining import rejoin
from flows.job.retries import retry_delay_seconds
from flows.job.run_record import RunRecord
from flows.job.runtime import CancelRequest, Runtime, current_runtime
from flows.job.summary_artifact import SummaryArtifact

_SELF_LOOK_SECONDS = 2.0
"""How often a run outside an `oumi` worker checks whether it was cancelled."""


@flow(name=FLOW_NAME, persist_result=False, description="Run one Oumi job to its end.")
async def run_job(request: JobRequest) -> "State[Any]":
    """Attach to the job's current attempt or launch it, watch it, and end as it ended.

    Args:
        request: What to run.

    Returns:
        The Prefect state the job ends in; its message begins with the termination reason.

    Raises:
        Abort: The run waits for a retry, or it is in a terminal state already.
    """
    runtime = current_runtime()
    record = RunRecord.current()
    snapshots = runtime.settings.snapshots_dir
    summary = SummaryArtifact(record, request, snapshots_dir=snapshots)
    with runtime.cancel_request(record.run.id) as cancel, _pause_request(record, request, runtime):
        attempt = Attempt(
            request,
            number=await record.attempt(),
            is_new=record.run.run_count <= 1,
            record=record,
            runtime=runtime,
            cancel=cancel,
            logger=get_run_logger(),
        )
        async with _own_cancel(attempt, record, cancel, runtime):
            if attempt.number > 1:
                await rejoin(record)
            launched = await launch(attempt)
            if isinstance(launched, JobHandle):
                async with summary.while_running():
                    outcome = await watch(attempt, launched)
            else:
                outcome = launched
    if cancel.is_concluded:
        # It may have been retried since: this execution must not set its state.
        raise Abort("The run was put in a terminal state from outside.")
    await record.refuse_if_concluded()
    if record.run.state is not None and record.is_paused:
        # Prefect would not let a run end whose pause is over (prefect 3.9).
        await record.end_pause(record.run.state.id, JobState.RUNNING)
    if record.is_cancelling:
        outcome = too_late_to_cancel(outcome)
    # A worker only runs a run that has a deployment.
    elif record.run.deployment_id is not None:
        delay = retry_delay_seconds(
            request,
            attempt=attempt.number,
            reason=outcome.reason,
            first_seconds=runtime.intervals.retry,
        )
        if delay is not None:
            await record.await_retry(seconds=delay, message=state_message(*outcome))
    await summary.write(outcome)
    return outcome.state


@task(task_run_name="launch", cache_policy=NO_CACHE, persist_result=False)
async def launch(attempt: Attempt) -> JobHandle | Outcome:
    """Find the attempt's job on its cluster, or launch it."""
    return await attempt.attach_or_launch()


@task(task_run_name="watch", cache_policy=NO_CACHE, persist_result=False)
async def watch(attempt: Attempt, handle: JobHandle) -> Outcome:
    """Follow the job to its end."""
    return await attempt.watch(handle)


def _pause_request(
    record: RunRecord, request: JobRequest, runtime: Runtime
) -> AbstractContextManager[object]:
    """Register the pause of a job that can be paused."""
    return runtime.pause_request(record.run) if is_local(request.cloud) else nullcontext()


@asynccontextmanager
async def _own_cancel(
    attempt: Attempt, record: RunRecord, cancel: CancelRequest, runtime: Runtime
) -> AsyncGenerator[None]:
    """Observe the run's own state where no `oumi` worker does it for all its runs."""
    if runtime.observes_cancels:
        yield
        return
    looking = asyncio.create_task(_look_for_cancel(record, cancel, runtime))
    try:
        yield
    except asyncio.CancelledError:
        # A process worker cancels by SIGTERM, which arrives here as a cancellation.
        await asyncio.shield(_end_if_cancelling(attempt, record))
        raise
    finally:
        looking.cancel()


async def _look_for_cancel(record: RunRecord, cancel: CancelRequest, runtime: Runtime) -> None:
    while True:
        await asyncio.sleep(_SELF_LOOK_SECONDS)
        try:
            await record.reload()
        except ObjectNotFound:  # deleted
            return cancel.ask(force=False, concluded=True)
        except httpx.HTTPError:
            continue
        if record.run.id in runtime.pauses:
            runtime.pauses[record.run.id].note(record.run.state)
        if record.is_cancelling or record.is_concluded:
            cancel.ask(force=record.labels.force_cancel, concluded=record.is_concluded)


async def _end_if_cancelling(attempt: Attempt, record: RunRecord) -> None:
    await record.reload()
    if record.is_cancelling:
        await attempt.end()
