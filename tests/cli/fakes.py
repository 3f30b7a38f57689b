"""Jobs and an engine that exist only in the test."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from flows.core.errors import EngineUnavailable
from flows.core.models import (
    ClusterList,
    ClusterState,
    ClusterStatus,
    JobHandle,
    JobProgress,
    JobStatus,
    Overlap,
)
from flows.core.states import JobState, TerminationReason
from mcp_server.cli.ports import (
    Checks,
    Clusters,
    EngineControl,
    Jobs,
    Pipelines,
    Report,
    Schedules,
    Sweeps,
)
from mcp_server.engine import EngineFinding, EngineStatus, ServerStatus, WorkerStatus
from mcp_server.services.checks import CheckService
from mcp_server.services.clusters import ClusterChange
from mcp_server.services.families.pipelines import NewPipeline, PipelineSubmission, PlannedStep
from mcp_server.services.families.sweeps import NewSweep, SweepSubmission
from mcp_server.services.jobs.cancelling import CancelledJobs
from mcp_server.services.jobs.comparing import Comparison, Difference
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.results import Adoption, JobList, JobLogs, JobRow, Submission
from mcp_server.services.jobs.service import OnChange, Until
from mcp_server.services.jobs.submitting import NewJob
from mcp_server.services.schedules.values import (
    LastRun,
    NewSchedule,
    Schedule,
    ScheduleChange,
    ScheduledJob,
    ScheduleList,
    ScheduleState,
)

T = TypeVar("T")

JOB_ID = "0f9e8d7c-1111-4222-8333-444455556666"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


NOT_LOOKED_AT = ["The disk was not looked at."]
SCHEDULE_ID = "5c8e8d7c-1111-4222-8333-444455556666"
NIGHTLY = Schedule(
    schedule_id=SCHEDULE_ID,
    name="nightly",
    state=ScheduleState.ACTIVE,
    when="cron 0 2 * * * UTC",
    overlap=Overlap.SKIP,
    command="train",
    config_path="/home/me/train.yaml",
    cloud="local",
    next_runs=[NOON],
    last_run=LastRun(
        job_id=JOB_ID, name="demo-0f9e8d7c", state=JobState.SUCCEEDED, scheduled_at=NOON
    ),
)
MADE = ScheduledJob(
    warnings=NOT_LOOKED_AT,
    summary="nightly runs cron 0 2 * * * UTC.",
    schedule_id=SCHEDULE_ID,
    name="nightly",
    state=ScheduleState.ACTIVE,
    dry_run=False,
    when="cron 0 2 * * * UTC",
    overlap=Overlap.SKIP,
    next_runs=[NOON],
    starts_by_itself=True,
    command="train",
    config_path="/home/me/train.yaml",
    cloud="local",
    cluster_name="",
    model_name="",
    output_dir="/home/me/out",
)


def status_of(state: JobState, **facts: Any) -> JobStatus:
    """A job's status."""
    values: dict[str, Any] = {
        "summary": f"demo-0f9e8d7c is {state}",
        "job_id": JOB_ID,
        "name": "demo-0f9e8d7c",
        "state": state,
        "is_done": state.is_terminal,
        "reachable": True,
        "observed_at": NOON,
        "command": "train",
        "config_path": "/home/me/train.yaml",
        "cloud": "local",
        "created_at": NOON,
        "started_at": NOON,
        "duration_seconds": 61.2,
        "log_path": "/home/me/log.txt",
        "url": "http://127.0.0.1:4200/runs/flow-run/0f9e8d7c",
    }
    return JobStatus(**(values | facts))


SCHEDULED = status_of(JobState.SCHEDULED)
RUNNING = status_of(
    JobState.RUNNING,
    summary="demo-0f9e8d7c is running; step 10 of 60; loss 4.2",
    progress=JobProgress(step=10, max_steps=60, percent=16.67, loss=4.2, eta_seconds=50),
)
SUCCEEDED = status_of(
    JobState.SUCCEEDED, termination_reason=TerminationReason.COMPLETED, output_dir="/home/me/out"
)
FAILED = status_of(
    JobState.FAILED,
    termination_reason=TerminationReason.NONZERO_EXIT,
    error_tail="Traceback ...\nValueError: no",
)
CANCELLED = status_of(JobState.CANCELLED, termination_reason=TerminationReason.USER_CANCELLED)
CANCELLING = status_of(JobState.CANCELLING)
CRASHED = status_of(JobState.CRASHED, termination_reason=TerminationReason.LOST)


def page_of(*lines: str, cursor: str, at_end: bool = False) -> JobLogs:
    """A part of a log."""
    return JobLogs(
        summary=f"{len(lines)} lines of demo-0f9e8d7c",
        job_id=JOB_ID,
        lines_returned=len(lines),
        logs="\n".join(lines),
        next_cursor=cursor,
        at_end=at_end,
    )


def submission_of(new: NewJob, *, dry_run: bool) -> Submission:
    """What starting a job answers with."""
    return Submission(
        summary="Dry run, nothing was started: oumi train." if dry_run else "demo is scheduled",
        job_id=None if dry_run else JOB_ID,
        name="demo-0f9e8d7c",
        state=None if dry_run else JobState.SCHEDULED,
        dry_run=dry_run,
        command=new.command,
        config_path=new.config_path,
        cloud=new.cloud,
        cluster_name=new.cluster_name,
        model_name="tiny",
        output_dir="",
        warnings=NOT_LOOKED_AT,
    )


JOB_LIST = JobList(
    summary="1 job, and there are more.",
    jobs=[
        JobRow(
            job_id=JOB_ID,
            name="demo [red]-0f9e8d7c",
            state=JobState.RUNNING,
            command="train",
            cloud="local",
            model_name="tiny",
            created_at=NOON,
            duration_seconds=3661,
        )
    ],
    next_cursor="MORE",
)


ENDED = CancelledJobs(summary="2 jobs: 2 cancelled.", done=True, matched=2, jobs=[])


def next_of(answers: list[Any]) -> Any:
    """The next answer; raises it if it is an exception."""
    answer = answers.pop(0)
    if isinstance(answer, BaseException):
        raise answer
    return answer


@dataclass
class FakeJobs:
    """Gives prepared answers, and records the calls.

    An answer that is an exception is raised.
    """

    story: list[JobStatus | BaseException] = field(default_factory=lambda: [SUCCEEDED])
    """What `status` and `wait` come to see."""
    pages: list[JobLogs | BaseException] = field(default_factory=lambda: [page_of(cursor="1")])
    cancelled: JobStatus = CANCELLED
    lives: list[int] = field(default_factory=lambda: [2])
    """How many jobs each preview of a cancel finds."""
    many: CancelledJobs = field(default_factory=lambda: ENDED)
    listed: JobList = JOB_LIST
    error: BaseException | None = None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def plan(self, new: NewJob) -> Submission:
        self._called("plan", new=new)
        return submission_of(new, dry_run=True)

    async def submit(self, new: NewJob, *, idempotency_key: str | None = None) -> Submission:
        self._called("submit", new=new, idempotency_key=idempotency_key)
        return submission_of(new, dry_run=False)

    async def status(self, reference: str, *, cloud: str = "") -> JobStatus:
        self._called("status", reference=reference)
        return next_of(self.story)

    async def wait(
        self,
        reference: str,
        *,
        until: Until,
        timeout_seconds: float,
        on_change: OnChange | None = None,
    ) -> JobStatus:
        self._called("wait", reference=reference, until=until)
        while True:
            status = next_of(self.story)
            if on_change:
                await on_change(status)
            if status.is_done:
                return status

    async def logs(
        self,
        reference: str,
        *,
        lines: int,
        cursor: str | None = None,
        grep: str | None = None,
        cloud: str = "",
    ) -> JobLogs:
        self._called("logs", reference=reference, lines=lines, cursor=cursor, grep=grep)
        return next_of(self.pages)

    async def cancel(self, reference: str, *, force: bool = False) -> JobStatus:
        self._called("cancel", reference=reference, force=force)
        return self.cancelled

    async def preview_cancel_all(self, wanted: JobFilter) -> CancelledJobs:
        self._called("preview_cancel_all", wanted=wanted)
        return CancelledJobs(
            summary="Some would be cancelled.", done=False, matched=self.lives.pop(0), jobs=[]
        )

    async def cancel_all(self, wanted: JobFilter, *, force: bool = False) -> CancelledJobs:
        self._called("cancel_all", wanted=wanted, force=force)
        return self.many

    async def list(
        self,
        *,
        status: str = "all",
        cloud: str = "",
        name: str = "",
        limit: int = 20,
        cursor: str | None = None,
    ) -> JobList:
        self._called("list", status=status, cloud=cloud, name=name, limit=limit, cursor=cursor)
        return self.listed

    async def compare(self, a: str, b: str) -> Comparison:
        self._called("compare", a=a, b=b)
        return Comparison(
            summary="1 input and 0 results of one and other differ.",
            a=a,
            b=b,
            inputs=[Difference(what="config.training.seed", a="1", b=None)],
            results=[],
        )

    async def retry(self, reference: str, *, resume: bool = True) -> JobStatus:
        self._called("retry", reference=reference, resume=resume)
        return SCHEDULED

    async def adopt(self, job: JobHandle) -> Adoption:
        self._called("adopt", job=job)
        return Adoption(
            summary=f"gcp job 7 is one of our jobs now, running; job_id {JOB_ID}.",
            job_id=JOB_ID,
            state=JobState.RUNNING,
        )

    def _called(self, name: str, /, **arguments: Any) -> None:
        self.calls.append((name, arguments))
        if self.error:
            raise self.error


CLUSTER = ClusterStatus(
    cloud="gcp",
    cluster_name="c1",
    state=ClusterState.UP,
    live_jobs=["1", "2"],
    hourly_cost=3.5,
    uptime_seconds=7200,
    cost_so_far=7,
)
UP = EngineStatus(
    summary="Prefect 3.8.8 answers at http://127.0.0.1:4200/api; the worker is ready",
    embedded=True,
    api_url="http://127.0.0.1:4200/api",
    ui_url="http://127.0.0.1:4200",
    auth_path="/home/me/.oumi-flows/engine/auth",
    server=ServerStatus(pid=7, alive=True, healthy=True, version="3.8.8", rss_bytes=2**20),
    worker=WorkerStatus(name="w", pid=8, alive=True, online=True, warm=True, rss_bytes=2**21),
    deployed=True,
    version="0.1.0",
)
DOWN = UP.model_copy(
    update={
        "summary": "The worker is not running, so jobs wait",
        "worker": WorkerStatus(name="w"),
        "problem": "The worker is not running, so jobs wait",
        "fix": "Run `oumi-flows up`",
    }
)


@dataclass
class FakeEngine:
    """An engine in a given state."""

    now: EngineStatus = UP
    found: list[EngineFinding] = field(default_factory=list)
    error: BaseException | None = None
    waited: bool = False
    kept: bool = False

    def keep(self) -> None:
        self.kept = True

    def up(self, *, wait_for_worker: bool, report: Report) -> EngineStatus:
        report("Starting the Prefect server")
        if self.error:
            raise self.error
        self.waited = wait_for_worker
        return self.now

    def down(self) -> EngineStatus:
        return self.now

    def status(self) -> EngineStatus:
        return self.now

    def doctor(self) -> list[EngineFinding]:
        return self.found


@dataclass
class FakeSchedules:
    """Schedules that are what was asked for."""

    asked: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])

    async def plan(self, new: NewSchedule) -> ScheduledJob:
        self.asked.append(("plan", new))
        return MADE.model_copy(update={"dry_run": True, "schedule_id": None})

    async def schedule(
        self, new: NewSchedule, *, idempotency_key: str | None = None
    ) -> ScheduledJob:
        self.asked.append(("schedule", new))
        return MADE

    async def list(self, *, limit: int = 10, cursor: str | None = None) -> ScheduleList:
        self.asked.append(("list", (limit, cursor)))
        return ScheduleList(summary="1 schedule.", schedules=[NIGHTLY])

    async def pause(self, reference: str) -> ScheduleChange:
        return self._change("pause", reference, ScheduleState.PAUSED)

    async def resume(self, reference: str) -> ScheduleChange:
        return self._change("resume", reference, ScheduleState.ACTIVE)

    async def delete(self, reference: str) -> ScheduleChange:
        return self._change("delete", reference, ScheduleState.DELETED)

    def _change(self, what: str, reference: str, state: ScheduleState) -> ScheduleChange:
        self.asked.append((what, reference))
        return ScheduleChange(
            summary=f"{reference} is {state}.",
            schedule_id=SCHEDULE_ID,
            name=reference,
            state=state,
            next_runs=[],
            live_jobs=[],
        )


class NoWorker:
    """Questions that no worker takes up."""

    async def call(self, *_: Any, **__: Any) -> Any:
        raise EngineUnavailable("No worker took it up", "Start one")


@dataclass
class FakeClusters:
    """One cluster, which can be stopped and destroyed."""

    asked: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    late_calls: int = 0
    """How many calls are answered before the end of a cluster is confirmed."""

    async def list(self, cloud: str = "") -> ClusterList:
        self.asked.append(("list", cloud))
        return ClusterList(
            summary="1 cluster.", clusters=[CLUSTER], unavailable={"slurm": "It is away."}
        )

    async def stop(self, cloud: str, cluster_name: str) -> ClusterChange:
        return self._change("stop", cloud, cluster_name)

    async def preview_stop(self, cloud: str, cluster_name: str) -> ClusterChange | None:
        return self._change("preview", cloud, cluster_name) if cloud == "local" else None

    async def preview_down(self, cloud: str, cluster_name: str) -> ClusterChange:
        return self._change("preview", cloud, cluster_name)

    async def down(self, cloud: str, cluster_name: str) -> ClusterChange:
        return self._change("down", cloud, cluster_name)

    def _change(self, verb: str, cloud: str, cluster_name: str) -> ClusterChange:
        self.asked.append((verb, cloud, cluster_name))
        return ClusterChange(
            summary=f"{verb} of {cluster_name}.",
            done=verb != "preview" and self.asked.count(self.asked[-1]) > self.late_calls,
            cloud=cloud,
            cluster_name=cluster_name,
            state="stopped" if verb == "stop" else "gone",
        )


class FakePipelines:
    """Plans and starts one pipeline."""

    async def plan(self, new: NewPipeline) -> PipelineSubmission:
        step = PlannedStep(
            name="evaluate",
            command="evaluate",
            config_path="eval.yaml",
            cloud="local",
            output_dir="",
            after=["train"],
            when="${train.state} == 'succeeded'",
        )
        return PipelineSubmission(
            summary=f"Dry run of {new.path}.",
            name="nightly",
            dry_run=True,
            steps=[step],
            warnings=NOT_LOOKED_AT,
        )

    async def submit(
        self, new: NewPipeline, *, idempotency_key: str | None = None
    ) -> PipelineSubmission:
        return PipelineSubmission(
            summary="nightly is scheduled.",
            job_id=JOB_ID,
            name="nightly",
            state=JobState.SCHEDULED,
            dry_run=False,
            steps=[],
        )


class FakeSweeps:
    """Plans and starts one sweep."""

    async def plan(self, new: NewSweep) -> SweepSubmission:
        return SweepSubmission(
            summary=f"Dry run of {new.path}.",
            name="rates",
            dry_run=True,
            trials=2,
            first_values=[{"training.learning_rate": 0.1 + 0.2}],
            warnings=NOT_LOOKED_AT,
        )

    async def submit(self, new: NewSweep, *, idempotency_key: str | None = None) -> SweepSubmission:
        return SweepSubmission(
            summary="rates is scheduled.",
            job_id=JOB_ID,
            name="rates",
            state=JobState.SCHEDULED,
            dry_run=False,
            trials=2,
            first_values=[],
        )


@dataclass
class FakeBackend:
    """Jobs and engine of the test."""

    service: FakeJobs = field(default_factory=FakeJobs)
    rented: FakeClusters = field(default_factory=FakeClusters)
    planned: FakeSchedules = field(default_factory=FakeSchedules)
    chained: FakePipelines = field(default_factory=FakePipelines)
    swept: FakeSweeps = field(default_factory=FakeSweeps)
    control: FakeEngine = field(default_factory=FakeEngine)
    brought_up: bool = False

    @property
    def engine(self) -> EngineControl:
        return self.control

    def call(self, use: Callable[[Jobs], Awaitable[T]], *, needs_engine: bool = True) -> T:
        self.brought_up = self.brought_up or needs_engine

        async def run() -> T:
            return await use(self.service)

        return asyncio.run(run())

    def checks(self, use: Callable[[Checks], Awaitable[T]]) -> T:
        async def run() -> T:
            return await use(CheckService(NoWorker(), timeout_seconds=1))  # type: ignore[arg-type]

        return asyncio.run(run())

    def schedules(
        self, use: Callable[[Schedules], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        self.brought_up = self.brought_up or needs_engine

        async def run() -> T:
            return await use(self.planned)

        return asyncio.run(run())

    def clusters(self, use: Callable[[Clusters], Awaitable[T]]) -> T:
        self.brought_up = True

        async def run() -> T:
            return await use(self.rented)

        return asyncio.run(run())

    def pipelines(
        self, use: Callable[[Pipelines], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        self.brought_up = self.brought_up or needs_engine

        async def run() -> T:
            return await use(self.chained)

        return asyncio.run(run())

    def sweeps(self, use: Callable[[Sweeps], Awaitable[T]], *, needs_engine: bool = True) -> T:
        self.brought_up = self.brought_up or needs_engine

        async def run() -> T:
            return await use(self.swept)

        return asyncio.run(run())
