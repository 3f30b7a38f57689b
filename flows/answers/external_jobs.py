"""Flows that look at, cancel and read jobs that oumi-flows did not launch, by the launcher's id."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Literal

from prefect import flow

from flows.answers.answering import answering
from flows.core.configs.clusters import CONNECTIONS_ENV, named_cluster
from flows.core.errors import JobAlreadyDone, JobNotFound
from flows.core.logs.pages import LogPage, read_from, read_tail
from flows.core.models import ExternalJob, ExternalLog, JobHandle, LogRequest
from flows.core.names import EXTERNAL_JOB_FLOW, EXTERNAL_LOG_FLOW, external_folder
from flows.core.redaction import own_redactor
from flows.core.states import JobState
from flows.job.log_copy import LogCopy
from flows.job.runtime import current_runtime
from flows.launcher.port import Launcher, LauncherState, Observation

STATE_OF_LAUNCHER = {
    LauncherState.PENDING: JobState.LAUNCHING,
    LauncherState.RUNNING: JobState.RUNNING,
    LauncherState.SUCCEEDED: JobState.SUCCEEDED,
    LauncherState.FAILED: JobState.FAILED,
    LauncherState.CANCELLED: JobState.CANCELLED,
}


@flow(
    name=EXTERNAL_JOB_FLOW,
    persist_result=False,
    description="Look at a job that oumi-flows did not launch, or cancel it.",
)
@answering
async def external_job(job: JobHandle, end: Literal["no", "cancel", "force"] = "no") -> ExternalJob:
    """Look at a job once, after a request to cancel it if `end` says so.

    Args:
        job: The job; without a cluster if its cloud has only one.
        end: Whether to cancel it, and whether by force.
    """
    launcher = current_runtime().launcher
    handle = _with_cluster(job)
    seen = await _observe(launcher, handle)
    if end == "no":
        return _describe(handle, seen)
    if seen.state.is_terminal:
        raise JobAlreadyDone(
            f"job {job.launcher_job_id} on {job.cloud}/{handle.cluster_name} has ended, "
            f"it is {seen.state}",
            "There is nothing to cancel",
        )
    return await _cancel(launcher, handle, force=end == "force")


@flow(
    name=EXTERNAL_LOG_FLOW,
    persist_result=False,
    description="Read the log of a job that oumi-flows did not launch.",
)
@answering
async def external_log(job: JobHandle, part: LogRequest) -> ExternalLog:
    """Read a part of a job's log, from a copy that is brought up to date first.

    Args:
        job: The job; without a cluster if its cloud has only one.
        part: Which part.
    """
    handle = _with_cluster(job)
    seen = await _observe(current_runtime().launcher, handle)
    if seen.log_path is not None:
        path, complete = Path(seen.log_path), True
    else:
        path, complete = await _copy_log(handle)
    ended = seen.state.is_terminal and complete
    page = await asyncio.to_thread(_read, path, part, final=ended)
    return _describe_page(page, path, seen, complete=complete)


async def _copy_log(handle: JobHandle) -> tuple[Path, bool]:
    """Bring the copy of a log up to date; return its path, and whether that succeeded."""
    runtime = current_runtime()
    folder = external_folder(handle.cloud, handle.cluster_name, handle.launcher_job_id)
    path = runtime.settings.jobs_dir / folder / "log.txt"
    copy = LogCopy(runtime.launcher, handle, path, interval_seconds=1, intervals=runtime.intervals)
    return path, await copy.catch_up()


def _read(path: Path, part: LogRequest, *, final: bool) -> LogPage:
    read = read_tail if part.offset is None else partial(read_from, offset=part.offset)
    return read(
        path,
        lines=part.lines,
        grep=part.grep,
        max_bytes=part.max_bytes,
        final=final,
        redactor=own_redactor(),
    )


def _describe_page(page: LogPage, path: Path, seen: Observation, *, complete: bool) -> ExternalLog:
    notes = [page.note] if page.note else []
    if page.cut_bytes:
        notes.append(f"{page.cut_bytes:,} bytes were cut")
    if not complete:
        notes.append("the log could not be read to its end")
    return ExternalLog(
        summary=f"{len(page.lines)} lines.",
        state=STATE_OF_LAUNCHER[seen.state],
        lines=page.lines,
        next_offset=page.next_offset,
        at_end=seen.state.is_terminal and complete and page.at_eof,
        notes=notes,
        log_path=str(path),
    )


def _with_cluster(job: JobHandle) -> JobHandle:
    connections = os.environ.get(CONNECTIONS_ENV, "")
    cluster = named_cluster(job.cloud, job.cluster_name, connections=connections)
    return job.model_copy(update={"cluster_name": cluster})


async def _observe(launcher: Launcher, handle: JobHandle) -> Observation:
    seen = await launcher.observe_job(handle)
    if seen is None:
        raise JobNotFound(
            f"{handle.cloud}/{handle.cluster_name} knows no job {handle.launcher_job_id!r}",
            "Give the id as the cluster itself writes it; list_clusters shows its jobs",
        )
    return seen


async def _cancel(launcher: Launcher, handle: JobHandle, *, force: bool) -> ExternalJob:
    await launcher.cancel(handle, force=force)
    after = await _observe(launcher, handle)
    if after.state.is_terminal:
        return _describe(handle, after)
    return _describe(handle, after).model_copy(
        update={
            "summary": f"The cancel of job {handle.launcher_job_id} was requested.",
            "state": JobState.CANCELLING,
        }
    )


def _describe(handle: JobHandle, seen: Observation) -> ExternalJob:
    state = STATE_OF_LAUNCHER[seen.state]
    message = own_redactor().text(seen.message)
    return ExternalJob(
        summary=f"Job {handle.launcher_job_id} on {handle.cluster_name} is {state}.",
        cloud=handle.cloud,
        cluster_name=handle.cluster_name,
        launcher_job_id=handle.launcher_job_id,
        state=state,
        observed_at=seen.observed_at,
        termination_reason=seen.reason if state.is_terminal else None,
        message=message,
    )
