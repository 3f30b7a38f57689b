"""The durable local cloud, in Oumi's terms.

It replaces Oumi's own ``local`` cloud, whose jobs end with the process that launched them
(oumi 0.9).
"""

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from omegaconf import MISSING
from oumi.core.configs import JobConfig
from oumi.core.launcher import BaseCloud, BaseCluster, JobState, JobStatus
from oumi.core.registry import REGISTRY, RegistryType

# These have no public name: the registry cannot replace an entry, and the launcher cannot forget
# a cloud that it has built (oumi 0.9).
from oumi.core.registry.registry import RegistryKey
from oumi.launcher.launcher import LAUNCHER

from flows.core import states
from flows.core.errors import InvalidConfig, JobNotFound
from flows.core.file_names import expand_home
from flows.core.names import DEVICES_ENV, GPUS_ENV, JOB_KEY_ENV, LOCAL_CLOUD, LOCAL_CLUSTER
from flows.core.settings import Settings
from flows.launcher.local.followed_log import followed_log
from flows.launcher.local.job import LocalJob, LocalJobRequest
from flows.launcher.local.store import LocalStore
from flows.launcher.local.supervisor_start import start_bare
from flows.launcher.local.warm.modules import MODULES
from flows.launcher.local.warm.start import WarmOptions, WarmStart, find_program

OUMI_STATE: Final = {
    states.JobState.SCHEDULED: JobState.PENDING,
    states.JobState.QUEUED: JobState.PENDING,
    states.JobState.PENDING: JobState.PENDING,
    states.JobState.LAUNCHING: JobState.PENDING,
    states.JobState.RUNNING: JobState.RUNNING,
    states.JobState.RETRYING: JobState.PENDING,
    states.JobState.CANCELLING: JobState.RUNNING,
    states.JobState.SUCCEEDED: JobState.SUCCEEDED,
    states.JobState.FAILED: JobState.FAILED,
    states.JobState.CANCELLED: JobState.CANCELLED,
    states.JobState.CRASHED: JobState.FAILED,
}
_LOST: Final = "LOST"


class LocalCluster(BaseCluster):
    """A named group of local jobs; slots are shared by all clusters of the machine."""

    def __init__(self, store: LocalStore, name: str) -> None:
        self._store = store
        self._name = name
        self._ended: dict[str, JobStatus] = {}

    def name(self) -> str:
        """The cluster's name."""
        return self._name

    def get_job(self, job_id: str) -> JobStatus | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observe a job; None if it is unknown, as Oumi documents and other clouds do."""
        job = self.find_job(job_id)
        return None if job is None else self._status(job)

    def get_jobs(self) -> list[JobStatus]:
        """All jobs ever launched on the cluster, in the order of submission."""
        return [self._status(job) for job in self.list_jobs()]

    def find_job(self, job_id: str) -> LocalJob | None:
        """Observe a job, as the store has it; None if it is unknown."""
        return self._store.get(self._name, job_id)

    def list_jobs(self) -> list[LocalJob]:
        """Observe all jobs of the cluster, as the store has them."""
        return self._store.jobs(self._name)

    def revive_job(self, job_id: str) -> bool:
        """Put a job that never ran back in the queue if its supervisor died; True if it did."""
        return self._store.revive(self._name, job_id)

    def cancel_job(self, job_id: str, *, grace_seconds: float | None = None) -> JobStatus:
        """Request the job's end; it is cancelled only once none of its processes is left.

        Args:
            job_id: The job.
            grace_seconds: From SIGTERM to SIGKILL; None: as set at the launch. It can shorten the
                grace of an earlier call.

        Returns:
            The job after at most a second: ``CANCELLING`` while its processes end, and unchanged
            if it had ended.

        Raises:
            JobNotFound: No such job was launched.
        """
        return self._status(self._store.cancel(self._name, job_id, grace_seconds=grace_seconds))

    def set_paused(self, job_id: str, *, paused: bool) -> LocalJob:
        """Freeze the processes of a job, or let them go on; return within about a second.

        Raises:
            JobNotFound: No such job was launched, or an earlier version launched it.
        """
        return self._store.set_paused(self._name, job_id, paused=paused)

    def run_job(self, job: JobConfig) -> JobStatus:
        """Launch a job; with OUMI_FLOWS_JOB_KEY in its `envs`, at most once for that key.

        Raises:
            InvalidConfig: The job needs what this machine does not have.
            InvalidArgument: The cluster's name or the key cannot name a folder.
            LaunchFailed: The job's folder could not be written, or its supervisor did not start.
        """
        return self._status(self._store.launch(self._name, _request(job)))

    def stop(self) -> None:
        """Cancel every live job of the cluster; return within seconds, maybe before they end."""
        # Every job gets the request before any wait.
        for job in self._store.live_jobs(self._name):
            self._store.cancel(self._name, job.job_id, wait_seconds=0.0)

    def down(self) -> None:
        """Cancel every live job; once they have ended, the cluster is no longer listed.

        Nothing is deleted: jobs and logs stay, `get_cluster` still finds them, and the next
        launch lists the cluster again.
        """
        self.stop()
        self._store.take_down(self._name)

    def get_logs_stream(self, cluster_name: str, job_id: str | None = None) -> io.TextIOBase:
        """Open the job's output from its beginning; reads wait for more until the job has ended.

        Args:
            cluster_name: The job's cluster.
            job_id: The job; None: the one submitted last.

        Raises:
            JobNotFound: No such job was launched.
        """
        if job_id is None:
            job = next(reversed(self._store.jobs(cluster_name)), None)
        else:
            job = self._store.get(cluster_name, job_id)
        if job is None:
            raise JobNotFound(
                f"local cluster {cluster_name!r} has no job {job_id or 'yet'!r}",
                "List the cluster's jobs for their ids",
            )
        return followed_log(
            job.log_path, is_live=partial(self._store.is_live, cluster_name, job.job_id)
        )

    def _status(self, job: LocalJob) -> JobStatus:
        known = self._ended.get(job.job_id)
        if known is not None:
            return known
        status = _status(job)
        if status.done:
            self._ended[job.job_id] = status
        return status


class LocalCloud(BaseCloud):
    """The jobs of this machine, on disk; any process may die without losing one of them."""

    def __init__(self, store: LocalStore, *, prepare: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._clusters: dict[str, LocalCluster] = {}
        self.prepare = prepare
        """Makes later launches faster; returns at once."""

    def up_cluster(self, job: JobConfig, name: str | None, **kwargs: Any) -> JobStatus:
        """Launch a job on the cluster `name`, by default ``local``; see `run_job`."""
        return self._cluster(name or LOCAL_CLUSTER).run_job(job)

    def get_cluster(self, name: str) -> LocalCluster | None:
        """The cluster, if a job was ever launched on it."""
        return self._cluster(name) if self._store.has_cluster(name) else None

    def list_clusters(self) -> list[BaseCluster]:
        """The clusters that were not taken down or still have live jobs."""
        return [self._cluster(name) for name in self._store.clusters()]

    def _cluster(self, name: str) -> LocalCluster:
        return self._clusters.setdefault(name, LocalCluster(self._store, name))


def build_local_cloud() -> LocalCloud:
    """Build the local cloud from the settings of this process."""
    settings = Settings()
    warm = _warm_start(settings)
    store = LocalStore(
        settings.local_dir,
        slots=settings.local_slots,
        cancel_grace_seconds=settings.cancel_grace_seconds,
        start=warm or start_bare,
    )
    return LocalCloud(store, prepare=warm.prepare) if warm else LocalCloud(store)


def _warm_start(settings: Settings) -> WarmStart | None:
    if not settings.warm_start or sys.platform != "linux":
        return None
    return WarmStart(
        WarmOptions(
            folder=settings.warm_dir,
            program=find_program(),
            modules=MODULES,
            idle_seconds=settings.warm_idle_minutes * 60,
            free_memory=settings.warm_free_memory,
        )
    )


def register() -> None:
    """Replace Oumi's own local cloud with the durable one; a second call does nothing."""
    registered: dict[RegistryKey, Any] = vars(REGISTRY)["_registry"]
    key = RegistryKey(LOCAL_CLOUD, RegistryType.CLOUD)
    # `contains` first makes the registry register Oumi's own clouds.
    if (
        REGISTRY.contains(LOCAL_CLOUD, RegistryType.CLOUD)
        and registered[key] is not build_local_cloud
    ):
        registered[key] = build_local_cloud
        built: dict[str, BaseCloud] = vars(LAUNCHER)["_clouds"]
        built.pop(LOCAL_CLOUD, None)


def prepare() -> None:
    """Make launches of local jobs by this process faster from soon on."""
    cloud = LAUNCHER.get_cloud(LOCAL_CLOUD)
    assert isinstance(cloud, LocalCloud)  # noqa: S101 - registered above
    cloud.prepare()


def _request(job: JobConfig) -> LocalJobRequest:
    """Read what to run, and refuse what this machine cannot do; other fields have no effect."""
    if job.resources.cloud != LOCAL_CLOUD:
        raise InvalidConfig(
            f"resources.cloud is {job.resources.cloud!r}, not {LOCAL_CLOUD!r}",
            "Launch it on its own cloud",
        )
    if not job.run or job.run == MISSING:
        raise InvalidConfig("run is empty", "Give the job a script to run")
    if job.num_nodes != 1:
        raise InvalidConfig(
            f"num_nodes is {job.num_nodes}, and this is one machine",
            "Set num_nodes to 1, or use a cluster",
        )
    for field in ("file_mounts", "storage_mounts"):
        if getattr(job, field):
            raise InvalidConfig(
                f"{field} cannot be mounted on this machine",
                "Remove it and use the paths of this machine",
            )
    for name, value in job.envs.items():
        if not name or "=" in name or "\0" in name + str(value):
            raise InvalidConfig(
                f"envs has an entry that cannot be set: {name!r}", "Rename it, or correct its value"
            )
    key = job.envs.get(JOB_KEY_ENV)
    return LocalJobRequest(
        name=job.name or "job",
        run=job.run,
        setup=job.setup or "",
        env={name: str(value) for name, value in job.envs.items()},
        working_dir=str(expand_home(job.working_dir or ".").absolute()),
        key=key,
        sets_devices=DEVICES_ENV in job.envs,
        gpus=int(job.envs.get(GPUS_ENV, 0)),
    )


def _message(job: LocalJob) -> str:
    if job.exit_code is not None:
        return f"exit code {job.exit_code} in the {job.phase} part"
    if job.signal is not None:
        return f"ended by signal {job.signal} in the {job.phase} part"
    if job.state is states.JobState.CRASHED:
        return "its processes are gone, and how they ended is unknown"
    return ""


def _status(job: LocalJob) -> JobStatus:
    facts = {
        "reason": job.reason,
        "message": _message(job),
        "exit_code": job.exit_code,
        "signal": job.signal,
        "phase": job.phase,
        "log_path": str(job.log_path),
        "job_dir": str(job.job_dir),
        "held_by": job.held_by,
    }
    is_lost = job.state is states.JobState.CRASHED
    return JobStatus(
        name=job.name,
        id=job.job_id,
        status=_LOST if is_lost else job.state.upper(),
        cluster=job.cluster,
        metadata=json.dumps(facts),
        done=job.state.is_terminal,
        state=OUMI_STATE[job.state],
        submit_time=job.submitted_at,
        start_at=job.started_at,
        end_at=job.ended_at,
    )
