"""Oumi's clouds of one site each, with corrections for what their clients omit or get wrong.

The clients of Frontier and Perlmutter list jobs by Slurm's ``sacct``, that of Polaris by PBS's
``qstat``. A cluster is named ``queue.user``, and uses the shared ssh connection of that user.
"""

import re
from typing import TYPE_CHECKING, Any, Final

from flows.core.errors import ClusterNotFound, JobNotFound
from flows.core.models import JobHandle
from flows.launcher.oumi.backend import OumiBackend
from flows.launcher.port import Observation
from flows.launcher.slurm.states import slurm_observation

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig
    from oumi.core.launcher import BaseCluster, JobStatus

_SUBMITTED: Final = re.compile(r"Job (\S+) not found after submission")


class SiteBackend(OumiBackend):
    """What all sites have in common."""

    def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job that has not ended; there is no grace to skip."""
        seen = self.observe_job(handle)
        if seen is None:
            raise JobNotFound(
                f"{handle.cluster_name} knows no job {handle.launcher_job_id}",
                "List the cluster's jobs for their ids",
            )
        if not seen.state.is_terminal:
            super().cancel(handle, force=force)

    def _up(self, job: "JobConfig", cluster_name: str) -> JobHandle:
        try:
            return super()._up(job, cluster_name)
        except RuntimeError as error:
            # The job was submitted, and the list is behind. A failed launch would be repeated
            # (oumi 0.9, `run_job` in launcher/clusters/{frontier,perlmutter,polaris}_cluster.py).
            submitted = _SUBMITTED.search(str(error))
            if submitted is None:
                raise
            return self._handle(cluster_name, submitted[1])

    def _cluster(self, name: str) -> "BaseCluster | None":
        """Find the cluster, also of a user whose connection was not open when Oumi started.

        Oumi does not know those clusters (oumi 0.9, `get_cluster` in
        launcher/clouds/{frontier,perlmutter,polaris}_cloud.py). If they counted as empty, their
        jobs would be launched again.
        """
        from oumi import launcher

        cluster = super()._cluster(name)
        if cluster is None:
            cloud: Any = launcher.get_cloud(self._cloud)
            cloud.initialize_clusters(self._user(name))
            cluster = super()._cluster(name)
        return cluster

    def _user(self, cluster_name: str) -> str:
        queue, _, user = cluster_name.partition(".")
        if not queue or not user or "." in user:
            raise ClusterNotFound(
                f"{cluster_name!r} is not a cluster of {self._cloud}", "Give it as queue.user"
            )
        return user


class SlurmSiteBackend(SiteBackend):
    """Frontier and Perlmutter."""

    def _observations(
        self, cluster: "BaseCluster", jobs: "list[JobStatus]"
    ) -> dict[str, Observation]:
        return {job.id: sacct_observation(job) for job in jobs}


def sacct_observation(job: "JobStatus") -> Observation:
    """Read a job of Oumi's list by the state that Slurm gave it.

    Oumi's own reading calls ``CANCELLED by 1001`` pending, and a suspended job failed (oumi 0.9,
    `_get_job_state` and `_split_status_line` in launcher/clients/slurm_client.py).
    """
    return slurm_observation(
        job.status, exit_code=None, signal=0, why=_last_column(job.metadata), phase=""
    )


def _last_column(table: str) -> str:
    """Read the last column of a table's last line; dashes in the second line mark the columns."""
    lines = table.splitlines()
    if len(lines) < 3:
        return ""
    return lines[-1][lines[1].rstrip().rfind(" ") + 1 :].strip()
