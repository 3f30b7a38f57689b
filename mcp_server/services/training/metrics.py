"""Reads the metrics of jobs, where their training records are, and draws them."""

from collections.abc import Sequence
from typing import Final

import anyio
from pydantic import Field

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.models import Value
from flows.core.result_metrics import read_kept
from flows.core.training.values import (
    JobMetrics,
    JobMetricsAnswer,
    MetricsRequest,
    MetricSummary,
)
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.illustrated import Illustrated
from mcp_server.services.jobs.finding import find_job
from mcp_server.services.jobs.log_files import LogFiles
from mcp_server.services.worker_calls import WorkerCalls

_WORKER_SECONDS: Final = 10.0


class MetricsQuery(Value):
    """What to read of the metrics of jobs.

    Attributes:
        keys: Names of metrics; empty: those that matter most.
        points: Most points of a series.
        since_step: First step; None: from the beginning.
    """

    keys: list[str] = Field(default_factory=list[str])
    points: int
    since_step: int | None = None


class MetricsAnswer(Illustrated):
    """The metrics of jobs; its picture is a chart of them."""

    summary: str = Field(description="One line a person can read.")
    jobs: list[JobMetrics]


class MetricsService:
    """Reads and draws metrics.

    Args:
        gateway: Prefect's API.
        calls: Asks the worker of a job whose files are on another machine.
    """

    def __init__(self, gateway: PrefectGateway, calls: WorkerCalls) -> None:
        self._gateway = gateway
        self._calls = calls

    async def read(
        self, references: Sequence[str], query: MetricsQuery, *, draw: bool
    ) -> MetricsAnswer:
        """Read the metrics of jobs.

        Args:
            references: Id, unique id prefix or name of each job.
            query: What to read.
            draw: Draw a chart, too.

        Raises:
            JobNotFound: There is no such job.
            InvalidArgument: A job is a pipeline or a sweep, or has none of the metrics.
        """
        runs = [await find_job(self._gateway, reference) for reference in references]
        unique = list({run.id: run for run in runs}.values())
        jobs = [await self._of_job(run, query) for run in unique]
        _refuse_unknown_keys(jobs, query.keys)
        answer = MetricsAnswer(summary=_summarise(jobs), jobs=jobs)
        if not draw:
            return answer
        return answer.with_picture(await anyio.to_thread.run_sync(_draw, jobs))

    async def _of_job(self, run: FlowRun, query: MetricsQuery) -> JobMetrics:
        refuse_family(run)
        logs = LogFiles.of(run)
        request = MetricsRequest(
            job_id=run.id,
            name=run.name,
            log_paths=logs.all_attempts() if logs else [],
            results=read_kept(run.labels.metrics) or {},
            keys=query.keys,
            points=query.points,
            since_step=query.since_step,
        )
        if logs is None or await anyio.to_thread.run_sync(logs.is_here):
            return await anyio.to_thread.run_sync(_read, request)
        answer = await self._calls.call(
            names.JOB_METRICS_FLOW,
            {"request": request.model_dump(mode="json")},
            JobMetricsAnswer,
            timeout_seconds=_WORKER_SECONDS,
        )
        return answer.job


def refuse_family(run: FlowRun) -> None:
    """Refuse a pipeline or a sweep.

    Raises:
        InvalidArgument: The run consists of other jobs.
    """
    if run.has_parts:
        raise InvalidArgument(
            f"{run.name} consists of other jobs and trains nothing itself",
            f"Call get_job_status with job_id {run.id}, and ask for the job_ids of its parts",
        )


def _read(request: MetricsRequest) -> JobMetrics:
    # It loads numpy, which the MCP server does without until then.
    from flows.core.training.summary import describe_metrics

    return describe_metrics(request)


def _draw(jobs: Sequence[JobMetrics]) -> bytes:
    # It loads matplotlib, which takes half a second.
    from flows.core.training.chart import draw_metrics

    return draw_metrics(jobs)


def _refuse_unknown_keys(jobs: Sequence[JobMetrics], keys: Sequence[str]) -> None:
    shown = {summary.key for job in jobs for summary in job.keys}
    others = list(dict.fromkeys(name for job in jobs for name in (*shown, *job.other_keys)))
    missing = [key for key in keys if key not in others]
    if missing and others:
        raise InvalidArgument(
            f"No job has the metric {', '.join(missing)}",
            f"Use one of: {', '.join(others[:30])}",
        )


def _summarise(jobs: Sequence[JobMetrics]) -> str:
    return " ".join(_describe(job) for job in jobs)


def _describe(job: JobMetrics) -> str:
    name = job.name or job.job_id
    if not job.keys:
        return f"{name} has logged no metrics yet."
    main = job.keys[0]
    said = f"{name}: {main.key} {main.first.value:.4g} -> {main.last.value:.4g}"
    said += f" at step {main.last.step}"
    if main.best is not None and main.best.step != main.last.step:
        said += f", best {main.best.value:.4g} at step {main.best.step}"
    odd = [f"{one.not_finite} values of {one.key}" for one in job.keys if one.not_finite]
    return f"{said}{'; not finite: ' + ', '.join(odd) if odd else ''}{_note_of_cut(job.keys)}."


def _note_of_cut(keys: Sequence[MetricSummary]) -> str:
    cut = max((one.count - len(one.series) for one in keys), default=0)
    most = max((one.count for one in keys), default=0)
    return f"; series thinned from up to {most} values" if cut else ""
