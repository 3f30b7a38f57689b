"""Finds what is wrong with the training of a job, where its record is."""

import time
from pathlib import Path
from typing import Final

import anyio.to_thread

from flows.core import names
from flows.core.diagnosis.findings import Diagnosis
from flows.core.diagnosis.request import DiagnosisRequest
from flows.core.redaction import Redactor
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.log_files import LogFiles
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.status import job_request, job_status
from mcp_server.services.training.metrics import refuse_family
from mcp_server.services.worker_calls import WorkerCalls

_WORKER_SECONDS: Final = 10.0


class DiagnosisService:
    """Diagnoses jobs.

    Args:
        gateway: Prefect's API.
        calls: Asks the worker of a job whose files are on another machine.
        snapshots_dir: Where configs are kept as submitted.
        home: Where workers leave marks of their secrets.
    """

    def __init__(
        self, gateway: PrefectGateway, calls: WorkerCalls, *, snapshots_dir: Path, home: Path
    ) -> None:
        self._gateway = gateway
        self._calls = calls
        self._redactors = Redactors(snapshots_dir, home)

    async def diagnose(self, reference: str) -> Diagnosis:
        """Diagnose a job.

        Args:
            reference: Id, unique id prefix or name.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: It is a pipeline or a sweep.
        """
        run = await find_job(self._gateway, reference)
        refuse_family(run)
        logs = LogFiles.of(run)
        request = _request(run, logs)
        if logs is None or await anyio.to_thread.run_sync(logs.is_here):
            hide = await anyio.to_thread.run_sync(self._redactors.of, run)
            found = await anyio.to_thread.run_sync(_diagnose, request, hide)
        else:
            found = await self._calls.call(
                names.DIAGNOSE_FLOW,
                {"request": request.model_dump(mode="json")},
                Diagnosis,
                timeout_seconds=_WORKER_SECONDS,
            )
        return found.model_copy(update={"summary": f"{run.name}: {found.summary}"})


def _request(run: FlowRun, logs: LogFiles | None) -> DiagnosisRequest:
    state, submitted = run.state.job_state, job_request(run)
    reason = job_status(run, None, ui_url=None, now=run.state.timestamp).termination_reason
    return DiagnosisRequest(
        log_paths=logs.all_attempts() if logs else [],
        is_running=state is JobState.RUNNING,
        now=run.end_time.timestamp() if run.end_time and state.is_terminal else time.time(),
        reason=reason if state.is_terminal else None,
        output_dir=run.labels.output_dir or "",
        config_sha256=(submitted.config_sha256 if submitted else "") or "",
    )


def _diagnose(request: DiagnosisRequest, hide: Redactor) -> Diagnosis:
    # It loads numpy, which the MCP server does without until then.
    from flows.core.diagnosis.reading import diagnose_job

    return diagnose_job(request, hide)
