"""Answers what came out of a job, on the machine or cluster that has its files."""

import asyncio
from pathlib import Path

from prefect import flow

from flows.answers.answering import answering
from flows.core.errors import CloudUnavailable, ClusterNotFound
from flows.core.models import JobHandle
from flows.core.names import JOB_RESULTS_FLOW
from flows.core.results.bounds import shorten
from flows.core.results.outputs import find_outputs
from flows.core.results.reading import find_here, this_machine
from flows.core.results.values import JobResults, ResultsRequest
from flows.job.runtime import current_runtime
from flows.launcher.port import Launcher
from flows.launcher.remote_results import find_on_cluster


@flow(
    name=JOB_RESULTS_FLOW,
    persist_result=False,
    description="List what came out of a job, where its files are.",
)
@answering
async def job_results(request: ResultsRequest) -> JobResults:
    """List what came out of a job.

    Args:
        request: The job.
    """
    runtime = current_runtime()
    snapshots_dir = runtime.settings.snapshots_dir
    if request.handle is not None:
        return await _of_cluster(request, request.handle, runtime.launcher, snapshots_dir)
    found = await asyncio.to_thread(find_here, request, snapshots_dir)
    return shorten(await asyncio.to_thread(found.describe, where=this_machine()))


async def _of_cluster(
    request: ResultsRequest, handle: JobHandle, launcher: Launcher, snapshots_dir: Path
) -> JobResults:
    where = f"{handle.cloud}/{handle.cluster_name}"
    try:
        remote = await find_on_cluster(request, handle, launcher, snapshots_dir=snapshots_dir)
    except (CloudUnavailable, ClusterNotFound) as error:
        outputs = await asyncio.to_thread(find_outputs, request, snapshots_dir)
        folders = [one.path for one in outputs.outputs]
        return _not_reachable(request, where, folders, error.sentences)
    return shorten(await asyncio.to_thread(remote.found.describe, where=where))


def _not_reachable(request: ResultsRequest, where: str, folders: list[str], why: str) -> JobResults:
    """The answer for files that cannot be read: where the job wrote them, and why not."""
    return JobResults(
        summary=f"The results on {where} cannot be read: {why}",
        job_id=request.job_id,
        where=where,
        folders=folders,
        checkpoints=[],
        models=[],
        scores=[],
        files=[],
        notes=[why],
    )
