"""Jobs launched elsewhere: found by cloud, cluster and the launcher's own id."""

import re
from typing import Final, TypeVar

from flows.core import names
from flows.core.configs.clouds import kind_of
from flows.core.errors import InvalidArgument, OumiFlowsError
from flows.core.models import (
    Answer,
    ExternalJob,
    ExternalLog,
    JobHandle,
    JobRequest,
    JobStatus,
    LogRequest,
)
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.launcher_ids import find_launched
from mcp_server.services.jobs.logs import page_bytes
from mcp_server.services.jobs.results import Adoption, JobLogs
from mcp_server.services.jobs.status import job_request, summary_line
from mcp_server.services.worker_calls import WorkerCalls

LOOK_SECONDS: Final = 2.3
"""How long to wait for a look; a late one continues, and the next call gets its answer."""
_TIMEOUT_SECONDS: Final = 60.0
_CURSOR: Final = re.compile(r"external:(\d{1,18})", re.ASCII)


T = TypeVar("T", bound=Answer)


class ExternalJobs:
    """Asks the worker about foreign jobs, and adopts them.

    Args:
        gateway: Prefect's API.
        look_seconds: How long one look waits for the worker's answer.
    """

    def __init__(self, gateway: PrefectGateway, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._gateway = gateway
        self._look_seconds = look_seconds
        self._calls = WorkerCalls(gateway)

    async def ours(self, job: JobHandle) -> FlowRun | None:
        """Find our job of a launcher's id; the last one, if its cluster had several.

        A cluster that was destroyed and made again restarts its ids: a job of ours that has ended
        is not the one that runs.

        Raises:
            AmbiguousId: No cluster is given, and more than one had a job of this id.
        """
        run = await find_launched(self._gateway, job)
        if run is None or not run.state.job_state.is_terminal:
            return run
        cluster = run.labels.cluster_name or ""
        try:
            seen = await self._ask(job.model_copy(update={"cluster_name": cluster}), end="no")
        except OumiFlowsError:
            return run
        return run if seen.state.is_terminal else None

    async def look(self, job: JobHandle) -> JobStatus:
        """Read the job's live status."""
        return _status(await self._ask(job, end="no"))

    async def cancel(self, job: JobHandle, *, force: bool) -> JobStatus:
        """Ask the job to end.

        Raises:
            JobAlreadyDone: It has ended.
        """
        # A cluster that does not answer fails fast here; one that answers gets the request.
        await self._ask(job, end="no")
        return _status(await self._ask(job, end="force" if force else "cancel"))

    async def logs(
        self, job: JobHandle, *, lines: int, cursor: str | None, grep: str | None
    ) -> JobLogs:
        """Read a part of the job's log."""
        place = _CURSOR.fullmatch(cursor or "")
        if cursor and place is None:
            raise InvalidArgument(
                "cursor belongs to another job", "Leave it out to read the tail of the log"
            )
        part = LogRequest(
            lines=lines,
            # JSON makes a log longer.
            max_bytes=page_bytes(lines) // 2,
            offset=int(place[1]) if place else None,
            grep=grep,
        )
        log = await self._call(
            names.EXTERNAL_LOG_FLOW, job, ExternalLog, part=part.model_dump(mode="json")
        )
        count = f"{len(log.lines)} line{'s' * (len(log.lines) != 1)} of {_name(job)} ({log.state})"
        end = ["the log is at its end"] if log.at_end else []
        return JobLogs(
            summary="; ".join([count, *end, *log.notes]),
            job_id=job.launcher_job_id,
            lines_returned=len(log.lines),
            logs="\n".join(log.lines),
            next_cursor=f"external:{log.next_offset}",
            at_end=log.at_end,
            log_path=log.log_path,
        )

    async def adopt(self, job: JobHandle) -> FlowRun:
        """Adopt the job: create a run that follows it, or return the one that does.

        Raises:
            JobNotFound: Its cluster does not know it.
            AmbiguousId: No cluster is given, and more than one had a job of this id.
        """
        if not job.cluster_name:
            known = await find_launched(self._gateway, job)
            cluster = (known.labels.cluster_name if known else None) or ""
            job = job.model_copy(update={"cluster_name": cluster})
        seen = await self._ask(job, end="no")
        request = JobRequest(
            config_path="",
            client_cwd="",
            cloud=seen.cloud,
            cluster_name=seen.cluster_name,
            launcher_job_id=seen.launcher_job_id,
            job_name=f"{seen.cloud} job {seen.launcher_job_id}",
        )
        handle = job.model_copy(update={"cluster_name": seen.cluster_name})
        known = await find_launched(self._gateway, handle)
        if known and (seen.state.is_terminal or not known.state.job_state.is_terminal):
            return known
        again = [known.id] if known else []
        return await self._gateway.create_run(
            name=request.job_name,
            parameters={"request": request.model_dump(mode="json")},
            tags=[
                *names.run_tags(command=names.JOB_COMMAND, cloud=seen.cloud),
                names.cluster_tag(seen.cluster_name),
                names.launcher_tag(seen.launcher_job_id),
            ],
            labels=RunLabels(
                attempt=1,
                cluster_name=seen.cluster_name,
                launcher_job_id=seen.launcher_job_id,
            ),
            idempotency_key=" ".join(["adopt", *handle.model_dump().values(), *again]),
            work_queue=names.CLOUD_QUEUE,
        )

    async def _ask(self, job: JobHandle, *, end: str) -> ExternalJob:
        return await self._call(names.EXTERNAL_JOB_FLOW, job, ExternalJob, end=end)

    async def _call(
        self, flow: str, job: JobHandle, answer_type: type[T], **parameters: object
    ) -> T:
        kind_of(job.cloud)
        asked = {"job": job.model_dump(mode="json"), **parameters}
        name = f"{flow} {job.launcher_job_id}"
        if parameters.get("end", "no") != "no":
            return await self._calls.call(
                flow, asked, answer_type, timeout_seconds=_TIMEOUT_SECONDS, name=name
            )
        return await self._calls.call_again(
            flow, asked, answer_type, timeout_seconds=self._look_seconds, name=name
        )


def adopted_job(run: FlowRun) -> JobHandle | None:
    """Return the job that a run follows but did not launch."""
    request = job_request(run)
    if request is None or request.launcher_job_id is None:
        return None
    return JobHandle(
        cloud=request.cloud,
        cluster_name=request.cluster_name,
        launcher_job_id=request.launcher_job_id,
    )


def adoption(run: FlowRun, *, url: str | None) -> Adoption:
    """Describe a job that was adopted."""
    state = run.state.job_state
    return Adoption(
        summary=f"{run.name} is one of our jobs now, {state}; job_id {run.id}.",
        job_id=run.id,
        state=state,
        url=url,
    )


def _status(seen: ExternalJob) -> JobStatus:
    status = JobStatus(
        summary="",
        job_id=seen.launcher_job_id,
        name=f"job {seen.launcher_job_id} on {seen.cloud}/{seen.cluster_name}",
        state=seen.state,
        is_done=seen.state.is_terminal,
        reachable=True,
        observed_at=seen.observed_at,
        termination_reason=seen.termination_reason,
        message=seen.message,
        command=names.JOB_COMMAND,
        cloud=seen.cloud,
        cluster_name=seen.cluster_name,
        launcher_job_id=seen.launcher_job_id,
    )
    return status.model_copy(update={"summary": summary_line(status)})


def _name(job: JobHandle) -> str:
    where = "/".join(filter(None, (job.cloud, job.cluster_name)))
    return f"job {job.launcher_job_id} on {where}"
