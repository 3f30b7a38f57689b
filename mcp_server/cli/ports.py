"""What the commands need of the rest of the project."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from flows.core.findings import ConfigValidation, PreFlight
from flows.core.models import ClusterList, JobHandle, JobStatus
from flows.core.names import LOCAL_CLOUD
from mcp_server.engine import EngineFinding, EngineStatus
from mcp_server.services.clusters import ClusterChange
from mcp_server.services.families.pipelines import NewPipeline, PipelineSubmission
from mcp_server.services.families.sweeps import NewSweep, SweepSubmission
from mcp_server.services.jobs.cancelling import CancelledJobs
from mcp_server.services.jobs.comparing import Comparison
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.results import Adoption, JobList, JobLogs, Submission
from mcp_server.services.jobs.service import OnChange, Until
from mcp_server.services.jobs.submitting import NewJob
from mcp_server.services.schedules.values import (
    NewSchedule,
    ScheduleChange,
    ScheduledJob,
    ScheduleList,
)

Report = Callable[[str], None]
T = TypeVar("T")


class Jobs(Protocol):
    """The use cases of jobs; `mcp_server.services.jobs.service.JobService` is the real one."""

    async def plan(self, new: NewJob) -> Submission:
        """Say what `submit` would start."""
        ...

    async def submit(self, new: NewJob, *, idempotency_key: str | None = None) -> Submission:
        """Start a job."""
        ...

    async def status(self, reference: str, *, cloud: str = "") -> JobStatus:
        """Look at a job."""
        ...

    async def wait(
        self,
        reference: str,
        *,
        until: Until,
        timeout_seconds: float,
        on_change: OnChange | None = None,
    ) -> JobStatus:
        """Look at a job until it reaches a state."""
        ...

    async def logs(
        self,
        reference: str,
        *,
        lines: int,
        cursor: str | None = None,
        grep: str | None = None,
        cloud: str = "",
    ) -> JobLogs:
        """Read a part of a job's log."""
        ...

    async def cancel(self, reference: str, *, force: bool = False) -> JobStatus:
        """Ask for a job's end."""
        ...

    async def preview_cancel_all(self, wanted: JobFilter) -> CancelledJobs:
        """Say which live jobs `cancel_all` would end."""
        ...

    async def cancel_all(self, wanted: JobFilter, *, force: bool = False) -> CancelledJobs:
        """Ask for the end of every live job that matches a filter."""
        ...

    async def list(
        self,
        *,
        status: str = "all",
        cloud: str = "",
        name: str = "",
        limit: int = 20,
        cursor: str | None = None,
    ) -> JobList:
        """List jobs."""
        ...

    async def retry(self, reference: str, *, resume: bool = True) -> JobStatus:
        """Start another attempt of a job that has ended."""
        ...

    async def adopt(self, job: JobHandle) -> Adoption:
        """Track a job that was launched without oumi-flows."""
        ...

    async def compare(self, a: str, b: str) -> Comparison:
        """Compare two jobs."""
        ...


class Schedules(Protocol):
    """The use cases of schedules; the real ones are in `mcp_server.services.schedules.service`."""

    async def plan(self, new: NewSchedule) -> ScheduledJob:
        """Say what `schedule` would create."""
        ...

    async def schedule(
        self, new: NewSchedule, *, idempotency_key: str | None = None
    ) -> ScheduledJob:
        """Create a schedule."""
        ...

    async def list(self, *, limit: int = 10, cursor: str | None = None) -> ScheduleList:
        """List schedules."""
        ...

    async def pause(self, reference: str) -> ScheduleChange:
        """Pause a schedule."""
        ...

    async def resume(self, reference: str) -> ScheduleChange:
        """Resume a schedule."""
        ...

    async def delete(self, reference: str) -> ScheduleChange:
        """Delete a schedule."""
        ...


class Clusters(Protocol):
    """The use cases of clusters; `mcp_server.services.clusters.ClusterService` is the real one."""

    async def list(self, cloud: str = "") -> ClusterList:
        """List clusters."""
        ...

    async def stop(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Stop a cluster."""
        ...

    async def preview_stop(self, cloud: str, cluster_name: str) -> ClusterChange | None:
        """Say which jobs of this machine `stop` would end; None: there is nothing to ask."""
        ...

    async def preview_down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Say what `down` would destroy."""
        ...

    async def down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Destroy a cluster."""
        ...


class Checks(Protocol):
    """The checks of configs; `mcp_server.services.checks.CheckService` is the real one."""

    async def validate(
        self, config: str, *, task_type: str | None, client_cwd: str, cloud: str = LOCAL_CLOUD
    ) -> ConfigValidation:
        """Check a config by Oumi's schema and classes."""
        ...

    async def pre_flight(self, config: str, *, client_cwd: str, cloud: str = "") -> PreFlight:
        """Look for everything that would make a job fail."""
        ...


class Pipelines(Protocol):
    """The use cases of pipelines; `mcp_server.services.families.pipelines` has the real ones."""

    async def plan(self, new: NewPipeline) -> PipelineSubmission:
        """Say what `submit` would start."""
        ...

    async def submit(
        self, new: NewPipeline, *, idempotency_key: str | None = None
    ) -> PipelineSubmission:
        """Start a pipeline."""
        ...


class Sweeps(Protocol):
    """The use cases of sweeps; `mcp_server.services.families.sweeps` has the real ones."""

    async def plan(self, new: NewSweep) -> SweepSubmission:
        """Say what `submit` would start."""
        ...

    async def submit(self, new: NewSweep, *, idempotency_key: str | None = None) -> SweepSubmission:
        """Start a sweep."""
        ...


class EngineControl(Protocol):
    """The engine's life cycle; `mcp_server.engine.Engine` is the real one."""

    def up(self, *, wait_for_worker: bool, report: Report) -> EngineStatus:
        """Start everything that this machine runs."""
        ...

    def keep(self) -> None:
        """Restart what ends, until `down` is called."""
        ...

    def down(self) -> EngineStatus:
        """Stop the worker and the server."""
        ...

    def status(self) -> EngineStatus:
        """Describe its state."""
        ...

    def doctor(self) -> list[EngineFinding]:
        """Check everything, and say how to fix what is wrong."""
        ...


class Backend(Protocol):
    """What the commands work on."""

    @property
    def engine(self) -> EngineControl:
        """The engine."""
        ...

    def call(self, use: Callable[[Jobs], Awaitable[T]], *, needs_engine: bool = True) -> T:
        """Use the jobs, once the engine is up where that is needed."""
        ...

    def checks(self, use: Callable[[Checks], Awaitable[T]]) -> T:
        """Use the checks; without a worker, skip those that need one."""
        ...

    def schedules(
        self, use: Callable[[Schedules], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        """Use the schedules, as `call` does the jobs."""
        ...

    def clusters(self, use: Callable[[Clusters], Awaitable[T]]) -> T:
        """Use the clusters, as `call` does the jobs."""
        ...

    def pipelines(
        self, use: Callable[[Pipelines], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        """Use the pipelines, as `call` does the jobs."""
        ...

    def sweeps(self, use: Callable[[Sweeps], Awaitable[T]], *, needs_engine: bool = True) -> T:
        """Use the sweeps, as `call` does the jobs."""
        ...
