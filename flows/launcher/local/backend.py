"""The durable local cloud, for the launcher."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.core.errors import ClusterUnreachable
from flows.core.models import JobHandle
from flows.core.states import JobState
from flows.launcher.local.job import LocalJob
from flows.launcher.local.oumi_cloud import OUMI_STATE, LocalCluster
from flows.launcher.oumi.backend import OumiBackend, read_job, why_it_ended
from flows.launcher.port import LauncherState, Observation

_END_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.2


class LocalBackend(OumiBackend):
    """The jobs of this machine: a cancel can skip the grace, and the log is a local file."""

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job; the local cloud launches the key in its `envs` at most once."""
        self.refuse_autostop(autostop_minutes)
        return self._up(read_job(job_config), cluster_name)

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, which is its id."""
        cluster = self._cluster(cluster_name)
        job = None if cluster is None else cluster.find_job(key)
        return None if job is None else self._handle(cluster_name, key)

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id."""
        cluster = self._cluster(cluster_name)
        jobs = [] if cluster is None else cluster.list_jobs()
        return {job.job_id: observation_of(job) for job in jobs}

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """Observe one job; if its supervisor died while it waited for a slot, it waits again."""
        cluster = self._cluster(handle.cluster_name)
        if cluster is None:
            return None
        job = cluster.find_job(handle.launcher_job_id)
        if job is None and cluster.revive_job(handle.launcher_job_id):
            job = cluster.find_job(handle.launcher_job_id)
        return None if job is None else observation_of(job)

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; `force` skips the grace."""
        grace_seconds = 0.0 if force else None
        cluster = self._known_cluster(handle.cluster_name)
        cluster.cancel_job(handle.launcher_job_id, grace_seconds=grace_seconds)

    def set_paused(self, handle: JobHandle, *, paused: bool) -> bool:
        """Freeze a job, or let it go on; return whether that is done."""
        cluster = self._known_cluster(handle.cluster_name)
        return cluster.set_paused(handle.launcher_job_id, paused=paused).is_paused is paused

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's log file from `offset` on."""
        seen = self.observe_job(handle)
        if seen is None or seen.log_path is None:
            return b""
        with Path(seen.log_path).open("rb") as file:
            file.seek(offset)
            return file.read(limit)

    def _cluster(self, name: str) -> LocalCluster | None:
        cluster = super()._cluster(name)
        assert cluster is None or isinstance(cluster, LocalCluster)  # noqa: S101 - of our cloud
        return cluster

    def _known_cluster(self, name: str) -> LocalCluster:
        cluster = super()._known_cluster(name)
        assert isinstance(cluster, LocalCluster)  # noqa: S101 - of our cloud
        return cluster

    def look_at(self, cluster_name: str) -> None:
        """Check that the cluster exists."""
        self._known_cluster(cluster_name)

    def stop(self, cluster_name: str) -> None:
        """Cancel the cluster's jobs; return when all of them have ended."""
        cluster = self._known_cluster(cluster_name)
        cluster.stop()
        self._wait_for_end(cluster_name)

    def down(self, cluster_name: str) -> None:
        """Cancel its jobs as `stop` does, and stop listing it. Jobs and logs stay on the disk."""
        cluster = self._known_cluster(cluster_name)
        cluster.down()
        self._wait_for_end(cluster_name)

    def _wait_for_end(self, cluster_name: str) -> None:
        """Wait until all jobs of the cluster have ended."""
        never = threading.Event()
        deadline = time.monotonic() + self._settings.cancel_grace_seconds + _END_SECONDS
        while live := self.live_jobs(cluster_name):
            if time.monotonic() > deadline:
                raise ClusterUnreachable(
                    f"cluster {cluster_name} still has {len(live)} live jobs after it was stopped",
                    "Cancel them with cancel_job and force=true",
                )
            never.wait(_LOOK_SECONDS)


def observation_of(job: LocalJob) -> Observation:
    """Observe a job of the store."""
    message = job.state.upper()
    if job.state is JobState.QUEUED and job.gpus:
        message = f"waits for {job.gpus} free GPUs of this machine"
    if job.reason is not None:
        message = why_it_ended(job.reason, exit_code=job.exit_code, signal=job.signal)
    return Observation(
        state=LauncherState(OUMI_STATE[job.state].value),
        observed_at=datetime.now(UTC),
        reason=job.reason,
        message=message,
        log_path=str(job.log_path),
        held_by=job.held_by,
        is_paused=None if job.state.is_terminal else job.is_paused,
    )
