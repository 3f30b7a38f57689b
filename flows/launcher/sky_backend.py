"""Oumi's SkyPilot clouds, through SkyPilot's API server.

Oumi's own client (oumi 0.9) reads a dead job's driver as pending, reports a cluster that is being
launched and one that never was alike, returns from `stop` and `down` before anything has happened,
and adds a second job when a launch is repeated. Of it, only the translation of job configs is used.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import yaml

from flows.configs.yaml_text import dump_yaml
from flows.errors import (
    ClusterNotFound,
    ClusterUnreachable,
    InvalidConfig,
    JobNotFound,
    LaunchFailed,
    OumiFlowsError,
)
from flows.launcher.oumi_backend import read_job
from flows.launcher.sky_clusters import SkyClusters
from flows.launcher.sky_log import SkyLogs
from flows.launcher.sky_server import SkyServer, first_line
from flows.launcher.sky_values import SkyClusterState, SkyJob, SkyRequest
from flows.models import ClusterStatus
from flows.ports import JobHandle, LauncherState, Observation
from flows.settings import Settings
from flows.states import TerminationReason

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

_END: Final = {
    "SUCCEEDED": (TerminationReason.COMPLETED, "The job finished."),
    "FAILED": (TerminationReason.NONZERO_EXIT, "The job exited with a code other than 0."),
    "FAILED_SETUP": (TerminationReason.SETUP_FAILED, "The setup script failed."),
    "FAILED_DRIVER": (
        TerminationReason.OUT_OF_MEMORY,
        "SkyPilot's process that runs the job died, most often because memory ran out.",
    ),
    "CANCELLED": (TerminationReason.USER_CANCELLED, "The job was cancelled."),
}

DEFAULT_AUTOSTOP_MINUTES: Final = 60
"""What Oumi 0.9 sets where a cloud can stop clusters."""

_LAUNCHES: Final = ("launch", "exec")
_APPEARS_SECONDS: Final = 15.0
_APPEARS_LOOK_SECONDS: Final = 0.5


class SkyBackend:
    """One of Oumi's clouds that SkyPilot runs.

    The launch key is the job's name on its cluster, and of its launch in the API server's list of
    requests: whatever died during a launch, one of the two has it.

    Args:
        cloud: Oumi's name of it.
        settings: Where logs are kept.
        server: The API server.
    """

    def __init__(self, cloud: str, settings: Settings, server: SkyServer | None = None) -> None:
        self._cloud = cloud
        self._server = server or SkyServer()
        self._folder = settings.home / "sky"
        self._logs = SkyLogs(self._server, self._folder)
        self._clusters = SkyClusters(self._server, timeout_seconds=settings.launch_timeout_seconds)
        self._launching = _Locks()

    @property
    def server(self) -> str:
        """The API server, which answers for all of SkyPilot's clouds."""
        return "SkyPilot"

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job, or take up the launch of its key that there was.

        Raises:
            LaunchFailed: SkyPilot could not start it; the message has why and where its account is.
            CloudUnavailable: No API server runs.
        """
        job = _named(job_config, key)
        self._server.check()
        with self._launching.of(key):
            launch = self._last_launch(cluster_name, key)
            if launch is not None and launch.succeeded:
                return self._handle(cluster_name, self._server.result(launch.request_id))
            if launch is not None and launch.is_live:
                return self._launched(cluster_name, key, launch.request_id)
            queued = self._queued(cluster_name, key)
            if queued is not None:
                return self._handle(cluster_name, queued.job_id)
            request_id = self._submit(job, cluster_name, key, autostop_minutes)
            return self._launched(cluster_name, key, request_id)

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none.

        Raises:
            ClusterUnreachable: Its launch is still under way, among others.
        """
        launch = self._last_launch(cluster_name, key)
        if launch is not None and launch.is_live:
            raise ClusterUnreachable(
                f"SkyPilot is still launching {key} on {cluster_name}", "It is asked again"
            )
        if launch is not None and launch.succeeded:
            return self._handle(cluster_name, self._server.result(launch.request_id))
        queued = self._queued(cluster_name, key)
        return None if queued is None else self._handle(cluster_name, queued.job_id)

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it."""
        return {job.job_id: _observation(job) for job in self._queue(cluster_name) or []}

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job; where its cluster is gone, how that ended it, as far as the server knows."""
        jobs = self._queue(handle.cluster_name)
        if jobs is None:
            return self._ended_with_cluster(handle)
        found = (job for job in jobs if job.job_id == handle.launcher_job_id)
        return next(map(_observation, found), None)

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """End a job: SkyPilot sends SIGTERM, and soon after SIGKILL; there is no grace to skip."""
        jobs = self._queue(handle.cluster_name)
        if jobs is None:
            raise ClusterNotFound(
                f"cluster {handle.cluster_name} on {self._cloud} is gone or stopped",
                "See list_clusters for what there is",
            )
        job = next((job for job in jobs if job.job_id == handle.launcher_job_id), None)
        if job is None:
            raise JobNotFound(
                f"cluster {handle.cluster_name} on {self._cloud} has no job "
                f"{handle.launcher_job_id}",
                "See the ids of its jobs in list_clusters",
            )
        if not job.state.is_terminal:
            self._server.cancel(handle.cluster_name, handle.launcher_job_id)

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's output from `offset` on, from the copy kept here."""
        return self._logs.read(
            handle.cluster_name, handle.launcher_job_id, offset=offset, limit=limit
        )

    def clusters(self) -> list[ClusterStatus]:
        """The clusters of every cloud that the API server has."""
        return self._clusters.listed()

    def stop(self, cluster_name: str) -> None:
        """Stop a cluster; returns once it was seen to be stopped."""
        self._clusters.stop(self._cloud, cluster_name)

    def down(self, cluster_name: str) -> None:
        """Destroy a cluster; returns once it was seen to be gone."""
        self._clusters.down(self._cloud, cluster_name)

    def _handle(self, cluster_name: str, job_id: str) -> JobHandle:
        return JobHandle(cloud=self._cloud, cluster_name=cluster_name, launcher_job_id=job_id)

    def _last_launch(self, cluster_name: str, key: str) -> SkyRequest | None:
        """The launch of a key that the server remembers; a failed one only if there is no other."""
        launches = [
            request
            for request in self._server.requests(cluster_name)
            if request.verb in _LAUNCHES and request.task_name == key
        ]
        return next(
            (launch for launch in launches if launch.succeeded or launch.is_live),
            next(iter(launches), None),
        )

    def _queued(self, cluster_name: str, key: str) -> SkyJob | None:
        """The first job of that name on a cluster, if the cluster is up."""
        try:
            jobs = self._server.queue(cluster_name)
        except ClusterNotFound:
            return None
        named = [job for job in jobs or [] if job.name == key]
        return min(named, key=lambda job: int(job.job_id), default=None)

    def _queue(self, cluster_name: str) -> list[SkyJob] | None:
        """The jobs of a cluster; None if it is gone or stopped.

        Raises:
            ClusterUnreachable: It is there and does not tell.
        """
        why = f"cluster {cluster_name} on {self._cloud} is not up"
        try:
            jobs = self._server.queue(cluster_name)
            if jobs is not None:
                return jobs
        except ClusterNotFound:
            return None
        except OumiFlowsError:
            raise
        except Exception as error:  # noqa: BLE001 - of the cluster's ssh or cloud; asked below
            why = f"cluster {cluster_name} on {self._cloud} does not answer: {first_line(error)}"
        # What SkyPilot remembers of a cluster that was taken away is that it is up.
        cluster = self._server.cluster(cluster_name, refresh=True)
        if cluster is None or cluster.state is SkyClusterState.STOPPED:
            return None
        raise ClusterUnreachable(why, "It is asked again by itself")

    def _submit(
        self, job: "JobConfig", cluster_name: str, key: str, autostop_minutes: int | None
    ) -> str:
        cluster = self._server.cluster(cluster_name)
        can_stop = self._server.can_stop(job)
        if autostop_minutes is not None and not can_stop:
            raise InvalidConfig(
                f"{self._cloud} cannot stop clusters, so autostop_minutes means nothing there",
                "Leave it out, and take the cluster down with down_cluster when you are done",
            )
        if autostop_minutes is None and can_stop:
            autostop_minutes = DEFAULT_AUTOSTOP_MINUTES
        is_up = cluster is not None and cluster.state is SkyClusterState.UP
        needs_only_run = not (job.setup or job.file_mounts or job.storage_mounts)
        try:
            if is_up and needs_only_run:
                return self._server.exec(job, cluster_name)
            return self._server.launch(job, cluster_name, autostop_minutes=autostop_minutes)
        except ClusterUnreachable:
            # The server may have taken it all the same.
            launch = self._appeared(cluster_name, key)
            if launch is None:
                raise
            return launch.request_id

    def _appeared(self, cluster_name: str, key: str) -> SkyRequest | None:
        """The launch whose submission was not answered, if it turns up."""
        never = threading.Event()
        for _ in range(int(_APPEARS_SECONDS / _APPEARS_LOOK_SECONDS)):
            launch = self._last_launch(cluster_name, key)
            if launch is not None:
                return launch
            never.wait(_APPEARS_LOOK_SECONDS)
        return None

    def _launched(self, cluster_name: str, key: str, request_id: str) -> JobHandle:
        log = self._folder / cluster_name / f"{key}.launch.log"
        try:
            job_id = self._server.launched(request_id, log)
        except OumiFlowsError:
            raise
        except Exception as error:  # of SkyPilot or a cloud
            raise LaunchFailed(
                f"{self._cloud} could not start the job on {cluster_name}: {first_line(error)}",
                f"SkyPilot's account of it is in {log} on the worker; mend the cause and retry",
            ) from error
        return self._handle(cluster_name, job_id)

    def _ended_with_cluster(self, handle: JobHandle) -> Observation | None:
        """How a job ended whose cluster is gone or stopped; None if no job was launched there."""
        requests = self._server.requests(handle.cluster_name)
        launched = [item for item in requests if item.verb in _LAUNCHES and item.succeeded]
        if not launched:
            return None
        since = launched[0].created_at
        where = f"Cluster {handle.cluster_name}"
        for verb, what in (("down", "taken down"), ("stop", "stopped")):
            if any(item.verb == verb and item.created_at > since for item in requests):
                return _seen(
                    LauncherState.CANCELLED,
                    TerminationReason.CANCELLED_EXTERNALLY,
                    f"{where} was {what} before the job was seen to end.",
                )
        cluster = self._server.cluster(handle.cluster_name)
        if cluster is not None and cluster.autostop >= 0:
            return _seen(
                LauncherState.FAILED,
                TerminationReason.LOST,
                f"{where} stopped itself after {cluster.autostop} idle minutes, and nobody had "
                "seen how the job ended; start the cluster to look.",
            )
        return _seen(
            LauncherState.FAILED,
            TerminationReason.PREEMPTED,
            f"{where} was taken away by {self._cloud}, and the job with it.",
        )


class _Locks:
    """A lock per key, for as long as anybody has it or waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Generator[None]:
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


def _named(job_config: str, key: str) -> "JobConfig":
    """The job config, with the launch key for the job's name."""
    return read_job(dump_yaml({**yaml.safe_load(job_config), "name": key}))


def _observation(job: SkyJob) -> Observation:
    reason, message = _END.get(job.status, (None, f"SkyPilot says {job.status}."))
    if job.status == "FAILED_DRIVER" and not job.started:
        # skypilot 0.12, sky/skylet/job_lib.py: its submission died half way.
        reason, message = TerminationReason.LAUNCH_FAILED, "SkyPilot never started the job."
    return _seen(job.state, reason, message)


def _seen(state: LauncherState, reason: TerminationReason | None, message: str) -> Observation:
    return Observation(state=state, observed_at=datetime.now(UTC), reason=reason, message=message)
