"""The launcher as flows see it: a port, and the values that cross it."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from flows.core.models import ClusterStatus, JobHandle, Usage, Value
from flows.core.states import ProcessHolder, TerminationReason

if TYPE_CHECKING:
    from flows.launcher.remote_files import RemoteFiles

ASKS_AGAIN: Final = "oumi-flows asks again by itself"
"""The next step where a cluster may answer a later request."""


class LauncherState(StrEnum):
    """The state of a job, as its launcher reports it; the values are Oumi's (oumi 0.9)."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the launcher's job has ended."""
        return self not in (LauncherState.PENDING, LauncherState.RUNNING)


class Observation(Value):
    """One observation of a launcher's job.

    Attributes:
        reason: Why it ended; None while live, and where the launcher does not report it.
        message: What the launcher reports, for people.
        log_path: The job's log, if it is a file on the launcher's machine.
        name: The key it was launched as; None where the launcher does not report it. A key other
            than the expected one means that another job has the id now.
        held_by: What keeps track of all processes of a local job that has started.
        is_paused: Whether its processes are frozen; None where the launcher cannot freeze it.
    """

    state: LauncherState
    observed_at: datetime
    reason: TerminationReason | None = None
    message: str = ""
    log_path: str | None = None
    name: str | None = None
    held_by: ProcessHolder | None = None
    is_paused: bool | None = None

    def is_another_than(self, key: str) -> bool:
        """Whether this is known to describe another job than the one launched as `key`."""
        return self.name is not None and self.name != key


class UsageSample(Value):
    """What a job has used so far, and for how many seconds it had run by then."""

    seconds: int
    usage: Usage


class Clusters(Value):
    """The clusters, and the clouds or servers that could not list theirs."""

    clusters: list[ClusterStatus]
    unavailable: dict[str, str]


class Launcher(Protocol):
    """Starts, finds, observes and cancels jobs. Every call may take the launcher's own time.

    Every method raises `ClusterUnreachable` when the launcher got no answer, which says nothing
    about the job.
    """

    async def warm_up(self) -> None:
        """Load what the first call would otherwise wait for."""
        ...

    async def reach(self, cloud: str, cluster_name: str) -> None:
        """Check that a job could be submitted to a cluster; change nothing.

        Raises:
            LaunchFailed: The cluster refuses us, and will refuse again.
            CloudUnavailable: The cloud is not known to the launcher, or not set up.
        """
        ...

    async def launch(
        self,
        job_config: str,
        *,
        cloud: str,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job described by an Oumi job config (YAML), named `key` on the launcher.

        Takes as long as the launcher does, provisioning included.

        Args:
            job_config: The job.
            cloud: Where it runs.
            cluster_name: On which cluster; created if it does not exist and the cloud can.
            key: The same key is launched once.
            autostop_minutes: Idle minutes after which the cluster stops itself; None: the
                cloud's default.

        Raises:
            InvalidConfig: The cluster cannot run the job, or cannot stop itself as requested.
            LaunchFailed: The launcher refused the job or could not start it.
            NothingSubmitted: The cluster did not answer, and this call submitted nothing. After
                any other `ClusterUnreachable` the job may be there.
            CloudUnavailable: The cloud is not known to the launcher.
        """
        ...

    async def find(self, *, cloud: str, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        ...

    async def observe(self, cloud: str, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it."""
        ...

    async def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job, by the launcher's most exact means; None if it does not know it."""
        ...

    async def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; `force` skips the grace where the cloud has one.

        Returns as soon as the request is accepted: only an observation shows that the job ended.
        """
        ...

    async def set_paused(self, handle: JobHandle, *, paused: bool) -> bool:
        """Freeze the processes of a job, or let them go on; return whether that is done.

        Raises:
            InvalidArgument: This cloud freezes no jobs.
            JobNotFound: The launcher does not know the job, or cannot freeze it.
        """
        ...

    async def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's output from `offset` on, after its end too.

        Empty if there are none yet. Never waits for more.

        Raises:
            CloudUnavailable: The logs of this cloud cannot be read.
        """
        ...

    async def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """What a job on a cluster used, as the cluster's accounting reports; None: it does not."""
        ...

    async def files(self, handle: JobHandle, *, key: str) -> "RemoteFiles":
        """How to reach the files of the job launched as `key`, on its cluster.

        Raises:
            CloudUnavailable: The files of this cloud cannot be reached.
            ClusterNotFound: The cluster is gone.
        """
        ...

    async def clusters(self, cloud: str) -> Clusters:
        """The clusters of a cloud, or of every cloud if it is empty.

        Raises:
            CloudUnavailable: That one cloud is not known to the launcher, or not set up.
        """
        ...

    async def look_at_cluster(self, cloud: str, cluster_name: str) -> None:
        """Check that a cluster exists and can be ended, as far as reading shows; change nothing.

        Raises:
            CloudUnavailable: The cloud is not known to the launcher, or not set up.
            ClusterNotFound: There is none of that name on that cloud.
            InvalidArgument: The launcher does not end clusters of this cloud.
        """
        ...

    async def stop_cluster(self, cloud: str, cluster_name: str) -> None:
        """Stop a cluster, keeping its disks; return once it is confirmed as stopped.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
            InvalidArgument: The cloud's clusters cannot be stopped.
        """
        ...

    async def down_cluster(self, cloud: str, cluster_name: str) -> None:
        """Destroy a cluster and its disks; return once it is confirmed as gone.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
            InvalidArgument: The launcher does not destroy clusters of this cloud.
        """
        ...
