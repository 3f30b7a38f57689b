"""Lists what came out of a job, where its files are."""

from pathlib import Path
from typing import Final

import anyio.to_thread

from flows.core import names
from flows.core.configs.clouds import find_kind, is_local
from flows.core.models import JobHandle
from flows.core.redaction import Redactor
from flows.core.results.values import JobResults, ResultsRequest
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.log_files import LogFiles
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.status import job_request
from mcp_server.services.training.metrics import refuse_family
from mcp_server.services.worker_calls import WorkerCalls

_WORKER_SECONDS: Final = 25.0
"""Several clients end a call after 30 s."""


class ResultsService:
    """Lists the results of jobs.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
        home: Where workers leave marks of their secrets.
    """

    def __init__(self, gateway: PrefectGateway, *, snapshots_dir: Path, home: Path) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir
        self._redactors = Redactors(snapshots_dir, home)

    async def read(self, reference: str) -> JobResults:
        """List what came out of a job.

        Args:
            reference: Id, unique id prefix or unique live name.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: It is a pipeline or a sweep.
            ClusterUnreachable: Its cluster does not answer.
        """
        run = await find_job(self._gateway, reference)
        refuse_family(run)
        if run.command == names.COLLECT_COMMAND:
            return await anyio.to_thread.run_sync(_list_collected, run)
        request = results_request(run)
        if await anyio.to_thread.run_sync(has_files_here, run):
            hide = await anyio.to_thread.run_sync(self._redactors.of, run)
            found = await anyio.to_thread.run_sync(_read, request, self._snapshots_dir, hide)
        else:
            # A job of another machine's worker has its files there.
            calls = WorkerCalls(self._gateway.for_pool(run.labels.work_pool))
            found = await calls.call_again(
                names.JOB_RESULTS_FLOW,
                {"request": request.model_dump(mode="json")},
                JobResults,
                timeout_seconds=_WORKER_SECONDS,
                name=f"{names.JOB_RESULTS_FLOW} {run.name}",
            )
        return found.model_copy(
            update={"summary": f"{run.name} ({run.state.job_state}): {found.summary}"}
        )


def has_files_here(run: FlowRun) -> bool:
    """Whether the files of a job are on this machine's disks. Blocking."""
    logs = LogFiles.of(run)
    return results_request(run).handle is None and (logs is None or logs.is_here())


def results_request(run: FlowRun) -> ResultsRequest:
    """Make the question about the results of a job."""
    submitted, labels = job_request(run), run.labels
    logs = LogFiles.of(run)
    is_done = run.state.job_state.is_terminal
    cloud = submitted.cloud if submitted else names.LOCAL_CLOUD
    handle = None
    if find_kind(cloud) is not None and not is_local(cloud):
        handle = JobHandle(
            cloud=cloud,
            cluster_name=labels.cluster_name or (submitted.cluster_name if submitted else ""),
            launcher_job_id=labels.launcher_job_id or "",
        )
    return ResultsRequest(
        job_id=run.id,
        attempt=run.attempt,
        request=submitted,
        handle=handle,
        output_dir=labels.output_dir or "",
        result_marks=labels.result_marks or "",
        own_folder=names.firing(run.id, run.expected_start_time),
        log_paths=logs.all_attempts() if logs else [],
        work_pool=labels.work_pool or "",
        # What a job that was adopted wrote before that is its own, too.
        began_at=run.start_time.timestamp()
        if run.start_time and not (submitted and submitted.launcher_job_id)
        else None,
        ended_at=run.end_time.timestamp() if run.end_time and is_done else None,
    )


def _read(request: ResultsRequest, snapshots_dir: Path, hide: Redactor) -> JobResults:
    from flows.core.results.bounds import shorten
    from flows.core.results.reading import find_here, this_machine

    found = find_here(request, snapshots_dir).describe(where=this_machine())
    return JobResults.model_validate(hide.data(shorten(found).model_dump(mode="json")))


def _list_collected(run: FlowRun) -> JobResults:
    """List what a collection copied."""
    from flows.core.results.collected import list_collected

    return list_collected(run.id, run.parameters.get("request"))
