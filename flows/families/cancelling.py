"""Cancels jobs, pipelines and sweeps whose flow does not run: ends their jobs, then the run.

This is the normal cancel of a pipeline or a sweep: the worker stops its flow and calls it. A job's
own flow cancels the job; this does it for a job whose worker died.
"""

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger

from flows.core import names
from flows.core.states import JobState, TerminationReason
from flows.families.children import Children
from flows.job.attempt import Attempt
from flows.job.outcome import Outcome
from flows.job.prefect_calls import state_of
from flows.job.run_record import RunRecord
from flows.job.run_request import request_of
from flows.job.runtime import CancelRequest, Runtime


async def end_and_conclude(run: FlowRun, *, client: PrefectClient, runtime: Runtime) -> None:
    """End the job or jobs of `run`, wait until they are gone, and mark the run as cancelled."""
    record = RunRecord(run, client)
    request = request_of(run)
    with runtime.cancel_request(run.id) as cancel:
        if request is None:
            cancel.ask(force=record.labels.force_cancel, concluded=False)
            await record.conclude(await _end_all_jobs(run, client, runtime, cancel))
            return
        attempt = Attempt(
            request,
            number=await record.attempt(),
            is_new=run.run_count == 0,
            record=record,
            runtime=runtime,
            cancel=cancel,
            logger=flow_run_logger(run),
        )
        await record.conclude(await attempt.end())


async def _end_all_jobs(
    run: FlowRun, client: PrefectClient, runtime: Runtime, cancel: CancelRequest
) -> Outcome:
    """End the jobs of a pipeline or a sweep, and wait until they are gone."""
    if f"{names.COMMAND_TAG}{names.COLLECT_COMMAND}" in run.tags:
        return Outcome(
            TerminationReason.USER_CANCELLED,
            "Cancelled on request. The same call goes on where this copy stopped.",
        )
    ended = await Children(run, client, runtime.settings).end(cancel)
    if not ended:
        return Outcome(TerminationReason.USER_CANCELLED, "It had no jobs.")
    succeeded = sum(state_of(child) is JobState.SUCCEEDED for child in ended)
    return Outcome(
        TerminationReason.USER_CANCELLED,
        f"Cancelled on request; {succeeded} of its {len(ended)} jobs had succeeded.",
    )
