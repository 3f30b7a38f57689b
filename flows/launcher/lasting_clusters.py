"""Clusters that exist whether or not Oumi uses them, such as those of Slurm."""

import logging
from abc import ABC, abstractmethod
from functools import partial
from typing import Final, Never

from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.foreign_errors import note_defects
from flows.core.models import ClusterState, ClusterStatus
from flows.launcher.bounded import Looks
from flows.launcher.port import Observation

_logger = logging.getLogger("prefect.oumi.launcher")

_ANSWER_SECONDS: Final = 1.5
"""How long a cluster may take to list its jobs when all clusters are listed."""


class LastingClusters(ABC):
    """A cloud's clusters, which are listed and never ended.

    Args:
        cloud: Its name in Oumi's registry.
    """

    def __init__(self, cloud: str) -> None:
        self._cloud = cloud
        self._looks = Looks()

    @property
    def server(self) -> str:
        """The cloud itself."""
        return self._cloud

    @abstractmethod
    def cluster_names(self) -> list[str]:
        """The clusters that are known."""

    @abstractmethod
    def observe(self, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id."""

    def reach(self, cluster_name: str) -> None:  # noqa: B027 - what most clouds need
        """Do nothing: a launch reports soon enough that its cluster does not answer."""

    def clusters(self) -> list[ClusterStatus]:
        """List the known clusters, with their live jobs where a cluster answers in time.

        The connection to any other continues, so the next call may have its jobs.
        """
        names = self.cluster_names()
        jobs = self._looks.answers(
            {name: partial(self.live_jobs, name) for name in names}, within_seconds=_ANSWER_SECONDS
        )
        return [
            ClusterStatus(
                cloud=self._cloud,
                cluster_name=name,
                state=ClusterState.UP,
                live_jobs=jobs.get(name),
            )
            for name in names
        ]

    def live_jobs(self, cluster_name: str) -> list[str] | None:
        """The ids of jobs that have not ended; None if the cluster does not answer."""
        # Whatever a cloud's client raises, the other clusters are still listed.
        with note_defects(partial(_logger.debug, "%s does not list its jobs: %r", cluster_name)):
            jobs = self.observe(cluster_name)
            return [job_id for job_id, job in jobs.items() if not job.state.is_terminal]
        return None

    def look_at(self, cluster_name: str) -> None:
        """Refuse, as `stop` does."""
        self._refuse(cluster_name)

    def stop(self, cluster_name: str) -> None:
        """Refuse: Oumi's own stop does nothing there, or cannot be confirmed.

        Seen in oumi 0.9, `stop` and `down` of launcher/clusters/slurm_cluster.py among others.
        """
        self._refuse(cluster_name)

    def down(self, cluster_name: str) -> None:
        """Refuse, as `stop` does."""
        self._refuse(cluster_name)

    def refuse_autostop(self, autostop_minutes: int | None) -> None:
        """Refuse a request that the cluster stops itself; None requests nothing."""
        if autostop_minutes is not None:
            raise InvalidConfig(
                f"clusters on {self._cloud} do not stop themselves, so autostop_minutes has no "
                "effect there",
                "Leave it out",
            )

    def _refuse(self, cluster_name: str) -> Never:
        raise InvalidArgument(
            f"{self._cloud} keeps its clusters whether or not Oumi uses them, so "
            f"{cluster_name} cannot be stopped or taken down",
            "Cancel its jobs with cancel_job instead",
        )
