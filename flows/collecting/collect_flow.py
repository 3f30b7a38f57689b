"""The `collect-results` flow: copy the results of a job to a folder of this machine."""

from typing import Any
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from flows.collecting.collection import Collection
from flows.collecting.log import CollectionLog
from flows.core.names import COLLECT_FLOW, launch_key
from flows.core.results.values import CollectRequest
from flows.core.run_labels import RunLabels
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome, too_late_to_cancel
from flows.job.progress_artifact import ProgressArtifact
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches
from flows.job.runtime import current_runtime


@flow(name=COLLECT_FLOW, persist_result=False, description="Copy the results of a job.")
async def collect_results(request: CollectRequest) -> "State[Any]":
    """Copy results; a worker that adopts the run continues where the last one stopped.

    Args:
        request: What to copy, and where to.

    Returns:
        The Prefect state the copy ends in; its message begins with the termination reason.
    """
    record, runtime = RunRecord.current(), current_runtime()
    attempt = await record.attempt()
    path = runtime.settings.jobs_dir / launch_key(record.run.id, attempt) / "log.txt"
    log = CollectionLog(path, get_run_logger())
    stopwatches = RunStopwatches(record)
    stopwatches.start(attempt)
    await record.label(RunLabels(attempt=attempt, log_path=str(path)))
    outcome = await Collection(request, ProgressArtifact(record), runtime, log).outcome()
    if outcome.reason is TerminationReason.COMPLETED:
        await _mark_source(request, record)
    log.say(outcome.text)
    stopwatches.stop()
    return await _conclude(record, outcome)


async def _mark_source(request: CollectRequest, record: RunRecord) -> None:
    """Note on the job that its results were collected."""
    what = ",".join(request.what) or "all"
    is_whole = "all" in what.split(",") and request.source.ended_at is not None
    into = request.into
    labels = (
        RunLabels(collected_attempt=request.source.attempt, collected_into=into)
        if is_whole
        else RunLabels(collected_part=f"{what} into {into}"[:500])
    )
    try:
        await record.client.update_flow_run_labels(UUID(request.source.job_id), labels.as_labels())
    except (httpx.HTTPError, ObjectNotFound):
        get_run_logger().warning("The job was not marked as collected")


async def _conclude(record: RunRecord, outcome: Outcome) -> "State[Any]":
    await record.refuse_if_concluded()
    await record.label(RunLabels())
    return (too_late_to_cancel(outcome) if record.is_cancelling else outcome).state
