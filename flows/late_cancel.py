"""Ending the job of a run that was cancelled while nobody executed it."""

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger
from pydantic import ValidationError

from flows.attempt import Attempt
from flows.models import JobRequest
from flows.outcome import Outcome
from flows.run_record import RunRecord
from flows.runtime import Runtime
from flows.states import TerminationReason


async def finish_cancel(run: FlowRun, *, client: PrefectClient, runtime: Runtime) -> None:
    """End the job of `run`, if it has one, wait until it is gone, and call the run cancelled."""
    record = RunRecord(run, client)
    request = request_of(run)
    if request is None:
        outcome = Outcome(TerminationReason.USER_CANCELLED, "It was not a job, and had none.")
        await record.conclude(outcome)
        return
    with runtime.cancel_request(run.id) as cancel:
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


def request_of(run: FlowRun) -> JobRequest | None:
    """What was asked for; None of a run that is no job, whose execution says what is wrong."""
    try:
        return JobRequest.model_validate(run.parameters.get("request"))
    except ValidationError:
        return None
