"""A cloud that Oumi's own classes drive without corrections."""

from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, cast

from flows.core.configs.slurm_checks import check_heredocs
from flows.core.configs.yaml_text import escape_references, mapping_of_yaml
from flows.core.errors import CloudUnavailable, ClusterNotFound, InvalidConfig
from flows.core.foreign_errors import first_line, translate_foreign
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.launcher.first_contact import nothing_submitted
from flows.launcher.lasting_clusters import LastingClusters
from flows.launcher.port import LauncherState, Observation, UsageSample
from flows.launcher.remote_files import RemoteFiles
from flows.launcher.signals import signal_from_outside

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig
    from oumi.core.launcher import BaseCluster, JobStatus

_NAME_LENGTH: Final = 30


class OumiBackend(LastingClusters):
    """One cloud through `oumi.launcher`.

    Args:
        cloud: Its name in Oumi's registry.
        settings: The settings of this process.
    """

    def __init__(self, cloud: str, settings: Settings) -> None:
        super().__init__(cloud)
        self._settings = settings
        self._launching: dict[tuple[str, str], Lock] = {}

    def launch(
        self,
        job_config: str,
        *,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job under a name made of its key, if it does not exist yet.

        Two processes that launch the same key at the same moment may both start it.
        """
        self.refuse_autostop(autostop_minutes)
        check_heredocs(mapping_of_yaml(job_config))
        with self._launching.setdefault((cluster_name, key), Lock()):
            with nothing_submitted():
                found = self.find(cluster_name, key)
            if found is not None:
                return found
            job = read_job(job_config)
            job.name = self._name_of(key)
            return self._up(job, cluster_name)

    def find(self, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        cluster = self._cluster(cluster_name)
        if cluster is None:
            return None
        name = self._name_of(key)
        status = next((job for job in cluster.get_jobs() if job.name == name), None)
        return None if status is None else self._handle(cluster_name, status.id)

    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id."""
        cluster = self._cluster(cluster_name)
        return self._observations(cluster, cluster.get_jobs()) if cluster is not None else {}

    def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job; None if the cluster does not know it."""
        cluster = self._cluster(handle.cluster_name)
        if cluster is None:
            return None
        status = cast("JobStatus | None", cluster.get_job(handle.launcher_job_id))
        return None if status is None else self._observations(cluster, [status]).get(status.id)

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; most clouds have no grace to skip."""
        self._known_cluster(handle.cluster_name).cancel_job(handle.launcher_job_id)

    def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """Refuse: Oumi has one blocking stream per cloud, each with faults of its own."""
        raise CloudUnavailable(
            f"the logs of jobs on {self._cloud} cannot be read from here",
            f"Read them with: oumi launch logs --cloud {self._cloud}",
        )

    def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """None: Oumi's classes report no job's use of its machine."""
        return None

    def files(self, handle: JobHandle, key: str) -> RemoteFiles:
        """Refuse: Oumi copies nothing back."""
        raise CloudUnavailable(
            f"the files of jobs on {self._cloud} cannot be read from here",
            "Copy them there, at the end of the job's script, to a store that you can reach",
        )

    def cluster_names(self) -> list[str]:
        """The clusters that Oumi knows."""
        from oumi import launcher

        return [cluster.name() for cluster in launcher.get_cloud(self._cloud).list_clusters()]

    def _observations(
        self, cluster: "BaseCluster", jobs: "list[JobStatus]"
    ) -> dict[str, Observation]:
        """Read Oumi's list of jobs; leave out jobs about which it is wrong."""
        return {job.id: observation(job) for job in jobs}

    def _name_of(self, key: str) -> str:
        """The name of the job of a key."""
        return short_name(key)

    def _up(self, job: "JobConfig", cluster_name: str) -> JobHandle:
        from oumi import launcher

        oumi: Any = launcher
        _, status = oumi.up(job, cluster_name)
        return self._handle(status.cluster, status.id)

    def _cluster(self, name: str) -> "BaseCluster | None":
        from oumi import launcher

        return launcher.get_cloud(self._cloud).get_cluster(name)

    def _known_cluster(self, name: str) -> "BaseCluster":
        cluster = self._cluster(name)
        if cluster is None:
            raise ClusterNotFound(
                f"cluster {name} on {self._cloud} is gone", "See the clusters in list_clusters"
            )
        return cluster

    def _handle(self, cluster_name: str, launcher_job_id: str) -> JobHandle:
        return JobHandle(
            cloud=self._cloud, cluster_name=cluster_name, launcher_job_id=launcher_job_id
        )


def read_job(job_config: str) -> "JobConfig":
    """Parse a job config as Oumi does.

    Raises:
        InvalidConfig: Oumi cannot read it.
    """
    from oumi.core.configs import JobConfig

    def refuse(error: Exception) -> InvalidConfig:
        return InvalidConfig(
            f"Oumi cannot read the job config: {first_line(error)}", "Correct the config"
        )

    # Oumi 0.9, OmegaConf and YAML raise different errors.
    with translate_foreign(refuse):
        return JobConfig.from_str(escape_references(job_config))


def observation(status: "JobStatus") -> Observation:
    """Translate Oumi's status of a job, which has no reason for its end."""
    return Observation(
        state=LauncherState(status.state.value),
        observed_at=datetime.now(UTC),
        message=status.status,
    )


def why_it_ended(
    reason: TerminationReason, *, exit_code: int | None = None, signal: int | None = None
) -> str:
    """Describe how a job ended, for people."""
    how = f"was ended by signal {signal}" if signal else f"exited with code {exit_code}"
    match reason:
        case TerminationReason.COMPLETED:
            return "The job finished."
        case TerminationReason.SETUP_FAILED:
            return f"The setup script {how}."
        case TerminationReason.OUT_OF_MEMORY:
            return "The kernel ended a process of the job, because memory ran out."
        case TerminationReason.KILLED:
            number = signal_from_outside(exit_code, signal)
            return f"The job was killed by signal {number}, and no lack of memory was seen."
        case TerminationReason.LOST:
            return "Every process of the job was gone, and none had recorded how it ended."
        case _:
            return f"The job {how}."


def short_name(key: str) -> str:
    """Shorten a key to a job's name: Oumi's lists cut names at 30 characters.

    Seen in oumi 0.9, `list_jobs` in launcher/clients/slurm_client.py.
    """
    start, _, attempt = key.rpartition("-")
    return f"{start[: _NAME_LENGTH - len(attempt) - 1]}-{attempt}"
