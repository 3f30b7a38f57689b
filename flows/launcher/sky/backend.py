"""Oumi's SkyPilot clouds, through SkyPilot's API server.

Oumi's own client (oumi 0.9) reports a job with a dead driver as pending, does not distinguish a
cluster that is being launched from one that never existed, returns from `stop` and `down` before
anything has happened, and adds a second job when a launch is repeated. Only its translation of job
configs is used.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from flows.core.configs.yaml_text import dump_yaml, mapping_of_yaml
from flows.core.errors import (
    ClusterNotFound,
    ClusterUnreachable,
    InvalidConfig,
    JobNotFound,
    LaunchFailed,
    StillLaunching,
)
from flows.core.models import ClusterStatus, JobHandle
from flows.core.names import launch_log
from flows.core.settings import Settings
from flows.launcher.first_contact import nothing_submitted
from flows.launcher.oumi.backend import read_job
from flows.launcher.port import ASKS_AGAIN, Observation, UsageSample
from flows.launcher.remote_files import Node, RemoteFiles
from flows.launcher.sky.clusters import SkyClusters
from flows.launcher.sky.errors import SkyFailed, cancelled_launch
from flows.launcher.sky.log import SkyLogs
from flows.launcher.sky.node import ENTER, SkyNode
from flows.launcher.sky.observations import observation_of, observe_end_with_cluster
from flows.launcher.sky.server import SkyServer
from flows.launcher.sky.values import SkyClusterState, SkyJob, SkyRequest, doubles, first_of

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

DEFAULT_AUTOSTOP_MINUTES: Final = 60
"""What Oumi 0.9 sets where a cloud can stop clusters."""

_APPEARS_SECONDS: Final = 15.0
_APPEARS_LOOK_SECONDS: Final = 0.5


class SkyBackend:
    """One of Oumi's clouds that SkyPilot runs.

    The launch key is the job's name on its cluster, and the name of its launch in the API server's
    list of requests. A server that was killed starts with an empty list, while its process that
    launches may continue. A key then gets a second job, which is cancelled again: the earlier job
    counts, whenever the other one appears.

    Args:
        cloud: Oumi's name of it.
        settings: Where logs are kept.
        server: The API server.
        make_node: Reaches the first machine of a cluster.
    """

    def __init__(
        self,
        cloud: str,
        settings: Settings,
        server: SkyServer | None = None,
        *,
        make_node: Callable[[str], Node] | None = None,
    ) -> None:
        self._cloud = cloud
        self._settings = settings
        limit = settings.launcher_timeout_seconds
        self._make_node = make_node or partial(SkyNode, timeout_seconds=limit)
        self._server = server or SkyServer()
        self._folder = settings.home / "sky"
        self._logs = SkyLogs(self._server, self._folder)
        self._clusters = SkyClusters(self._server, timeout_seconds=settings.launch_timeout_seconds)
        self._launching: dict[str, threading.Lock] = {}
        # Names of the observed jobs. A new cluster of the same name gives their ids to other jobs.
        self._names: dict[JobHandle, str] = {}
        self._ended: set[JobHandle] = set()

    @property
    def server(self) -> str:
        """The API server, which answers for all of SkyPilot's clouds."""
        return "SkyPilot"

    def reach(self, cluster_name: str) -> None:
        """Check that the API server is there; it is the server that reaches clusters."""
        with nothing_submitted():
            self._server.check()

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job, or continue the earlier launch of its key.

        Raises:
            LaunchFailed: SkyPilot could not start it; the message has the cause and names the log.
            LaunchCancelled: The launch was cancelled, or its cluster taken down during it.
            CloudUnavailable: No API server runs.
        """
        job = _read_job_as(job_config, key)
        self.reach(cluster_name)
        with self._launching.setdefault(key, threading.Lock()):
            with nothing_submitted():
                launch = self._last_launch(cluster_name, key)
            if launch is not None and launch.is_live:
                return self._wait_for_launch(cluster_name, key, launch.request_id)
            with nothing_submitted():
                found = self._find_job(cluster_name, key, launch)
            if found is not None:
                return found
            if launch is not None and launch.was_cancelled:
                raise cancelled_launch()
            request_id = self._submit(job, cluster_name, key, autostop_minutes)
            return self._wait_for_launch(cluster_name, key, request_id)

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none.

        Raises:
            StillLaunching: Its launch has not ended; another launch waits for it.
        """
        launch = self._last_launch(cluster_name, key)
        if launch is not None and launch.is_live:
            raise StillLaunching(f"SkyPilot is still launching {key} on {cluster_name}", ASKS_AGAIN)
        return self._find_job(cluster_name, key, launch)

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it."""
        jobs = self._queue(cluster_name) or []
        return {job.job_id: self._note(self._handle(cluster_name, job.job_id), job) for job in jobs}

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """Observe one job; if its cluster is gone, report how that ended the job, if known."""
        jobs = self._queue(handle.cluster_name)
        if jobs is None:
            ended = observe_end_with_cluster(self._server, self._cloud, handle.cluster_name)
            if ended is not None:
                self._ended.add(handle)
            return ended
        found = (job for job in jobs if job.job_id == handle.launcher_job_id)
        return next((self._note(handle, job) for job in found), None)

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """End a job: SkyPilot sends SIGTERM, and soon after SIGKILL; there is no grace to skip.

        Raises:
            ClusterUnreachable: SkyPilot cannot cancel it yet, among others.
        """
        job = self._job_of(handle)
        if job.is_being_submitted:
            # SkyPilot would report success and cancel nothing (skypilot 0.12, cancel_jobs).
            raise ClusterUnreachable(
                f"SkyPilot is still submitting job {job.job_id} of {handle.cluster_name}, and "
                "cannot cancel it yet",
                "Cancel it again in a moment",
            )
        if not job.state.is_terminal:
            self._server.cancel(handle.cluster_name, handle.launcher_job_id)

    def _job_of(self, handle: JobHandle) -> SkyJob:
        jobs = self._queue(handle.cluster_name)
        if jobs is None:
            raise ClusterNotFound(
                f"cluster {handle.cluster_name} on {self._cloud} is gone or stopped",
                "See the clusters in list_clusters",
            )
        job = next((job for job in jobs if job.job_id == handle.launcher_job_id), None)
        if job is None:
            raise JobNotFound(
                f"cluster {handle.cluster_name} on {self._cloud} has no job "
                f"{handle.launcher_job_id}",
                "See the ids of its jobs in list_clusters",
            )
        return job

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's output from `offset` on, from the copy kept here."""
        return self._logs.read(
            handle.cluster_name,
            handle.launcher_job_id,
            name=self._name(handle),
            offset=offset,
            limit=limit,
            has_ended=handle in self._ended,
        )

    def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """None: SkyPilot reports no job's use of its machine."""
        return None

    def files(self, handle: JobHandle, key: str) -> RemoteFiles:
        """How to reach the working folder, which all jobs of the cluster share.

        Raises:
            ClusterNotFound: The cluster is gone or stopped.
        """
        cluster = self._server.cluster(handle.cluster_name)
        if cluster is None or cluster.state is SkyClusterState.STOPPED:
            raise ClusterNotFound(
                f"cluster {handle.cluster_name} on {self._cloud} is gone or stopped, and the files "
                "of the job with it",
                "Collect results before down_cluster; a stopped cluster has them when it is up",
            )
        self._server.write_ssh_config(handle.cluster_name)
        return RemoteFiles(self._make_node(handle.cluster_name), ENTER)

    def clusters(self) -> list[ClusterStatus]:
        """The clusters of every cloud that the API server has."""
        return self._clusters.list_all()

    def look_at(self, cluster_name: str) -> None:
        """Check that the cluster exists."""
        self._clusters.look_at(self._cloud, cluster_name)

    def stop(self, cluster_name: str) -> None:
        """Stop a cluster; return once it is confirmed as stopped."""
        self._clusters.stop(self._cloud, cluster_name)

    def down(self, cluster_name: str) -> None:
        """Destroy a cluster; return once it is confirmed as gone."""
        self._clusters.down(self._cloud, cluster_name)

    def _handle(self, cluster_name: str, job_id: str) -> JobHandle:
        return JobHandle(cloud=self._cloud, cluster_name=cluster_name, launcher_job_id=job_id)

    def _last_launch(self, cluster_name: str, key: str) -> SkyRequest | None:
        """The launch of a key that the server remembers; a failed one only if there is no other."""
        launches = [
            request
            for request in self._server.requests(cluster_name)
            if request.is_launch and request.task_name == key
        ]
        return next(
            (launch for launch in launches if launch.has_succeeded or launch.is_live),
            next(iter(launches), None),
        )

    def _find_job(self, cluster_name: str, key: str, launch: SkyRequest | None) -> JobHandle | None:
        """Find the job of a key in the cluster's queue, or by the result of its last launch."""
        queued = self._find_queued(cluster_name, key)
        if queued is not None:
            return self._handle(cluster_name, queued.job_id)
        if launch is None or not launch.has_succeeded:
            return None
        return self._handle(cluster_name, self._server.result(launch.request_id))

    def _find_queued(self, cluster_name: str, key: str) -> SkyJob | None:
        """Find the job that counts for a key, if the cluster is up; cancel its doubles."""
        try:
            jobs = self._server.queue(cluster_name)
        except ClusterNotFound:
            return None
        except SkyFailed:
            jobs = self._queue(cluster_name)
        jobs = jobs or []
        self._cancel_doubles(cluster_name, jobs)
        first = first_of(jobs, key)
        if first is not None and first.is_being_submitted and _count(jobs, key) > 1:
            raise StillLaunching(
                f"SkyPilot is still submitting {key} on {cluster_name}", ASKS_AGAIN
            )
        return first

    def _cancel_doubles(self, cluster_name: str, jobs: list[SkyJob]) -> None:
        for job in doubles(jobs):
            self._server.cancel(cluster_name, job.job_id)

    def _no_autostop(self) -> InvalidConfig:
        return InvalidConfig(
            f"{self._cloud} cannot stop clusters, so autostop_minutes has no effect there",
            "Leave it out, and take the cluster down with down_cluster when you are done",
        )

    def _queue(self, cluster_name: str) -> list[SkyJob] | None:
        """The jobs of a cluster; None if it is gone or stopped.

        Raises:
            ClusterUnreachable: It exists and does not answer.
        """
        why = f"cluster {cluster_name} on {self._cloud} is not up"
        try:
            jobs = self._server.queue(cluster_name)
            if jobs is not None:
                self._cancel_doubles(cluster_name, jobs)
                return jobs
        except ClusterNotFound:
            return None
        except SkyFailed as error:
            why = f"cluster {cluster_name} on {self._cloud} does not answer: {error}"
        # Without a refresh, SkyPilot reports a cluster that its cloud took away as up.
        cluster = self._server.cluster(cluster_name, refresh=True)
        if cluster is None or cluster.state is SkyClusterState.STOPPED:
            return None
        raise ClusterUnreachable(why, ASKS_AGAIN)

    def _submit(
        self, job: "JobConfig", cluster_name: str, key: str, autostop_minutes: int | None
    ) -> str:
        with nothing_submitted():
            cluster = self._server.cluster(cluster_name)
        can_stop = self._server.can_stop(job)
        if autostop_minutes is not None and not can_stop:
            raise self._no_autostop()
        is_up = cluster is not None and cluster.state is SkyClusterState.UP
        needs_only_run = not (job.setup or job.file_mounts or job.storage_mounts)
        try:
            if is_up and needs_only_run and autostop_minutes is None:
                return self._server.exec(job, cluster_name)
            if autostop_minutes is None and can_stop:
                autostop_minutes = DEFAULT_AUTOSTOP_MINUTES
            return self._server.launch(job, cluster_name, autostop_minutes=autostop_minutes)
        except ClusterUnreachable:
            # The server may have accepted it without an answer.
            launch = self._wait_for_request(cluster_name, key)
            if launch is None:
                raise
            return launch.request_id

    def _wait_for_request(self, cluster_name: str, key: str) -> SkyRequest | None:
        """Wait for a launch whose submission got no answer; None if none appears."""
        never = threading.Event()
        for _ in range(int(_APPEARS_SECONDS / _APPEARS_LOOK_SECONDS)):
            launch = self._last_launch(cluster_name, key)
            if launch is not None:
                return launch
            never.wait(_APPEARS_LOOK_SECONDS)
        return None

    def _wait_for_launch(self, cluster_name: str, key: str, request_id: str) -> JobHandle:
        log = launch_log(self._settings.home, cluster_name, key)
        try:
            job_id = self._server.wait_for_launch(request_id, log)
        except SkyFailed as error:
            raise LaunchFailed(
                f"{self._cloud} could not start the job on {cluster_name}: {error}",
                f"Read SkyPilot's log of it, {log} on the worker; correct the cause and retry",
            ) from error
        # A launch that the server has forgotten may have made an earlier job.
        queued = self._find_queued(cluster_name, key)
        return self._handle(cluster_name, job_id if queued is None else queued.job_id)

    def _note(self, handle: JobHandle, job: SkyJob) -> Observation:
        self._names[handle] = job.name
        if job.state.is_terminal:
            self._ended.add(handle)
        else:
            self._ended.discard(handle)
        return observation_of(job)

    def _name(self, handle: JobHandle) -> str:
        """A job's name on its cluster; empty if it is unknown."""
        if handle not in self._names:
            for job in self._queue(handle.cluster_name) or []:
                self._names[self._handle(handle.cluster_name, job.job_id)] = job.name
        return self._names.get(handle, "")


def _read_job_as(job_config: str, key: str) -> "JobConfig":
    """Parse the job config, with the launch key as the job's name."""
    return read_job(dump_yaml({**mapping_of_yaml(job_config), "name": key}))


def _count(jobs: list[SkyJob], key: str) -> int:
    return sum(job.name == key and not job.was_never_submitted for job in jobs)
