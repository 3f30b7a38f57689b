"""The clusters of SkyPilot's API server: their list, their costs, and their end."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from flows.core.errors import ClusterNotFound, ClusterUnreachable, OumiFlowsError
from flows.core.models import ClusterState, ClusterStatus
from flows.launcher.bounded import Looks
from flows.launcher.sky.errors import SkyFailed
from flows.launcher.sky.server import SkyServer
from flows.launcher.sky.values import SkyCluster, SkyClusterState

STATE_OF_CLUSTER: Final = {
    SkyClusterState.INIT: ClusterState.LAUNCHING,
    SkyClusterState.PENDING: ClusterState.LAUNCHING,
    SkyClusterState.UP: ClusterState.UP,
    SkyClusterState.AUTOSTOPPING: ClusterState.STOPPING,
    SkyClusterState.STOPPED: ClusterState.STOPPED,
}
_ANSWER_SECONDS: Final = 2.5
"""How long the clusters may take to list their jobs, and the server to report their costs."""
_COSTS: Final = ""
"""The key of the query for the costs; no cluster has this name."""
_LOOK_SECONDS: Final = 2.0
_SERVER_SECONDS: Final = 1.5
"""How long the API server may take to answer a check."""


class SkyClusters:
    """Lists and ends clusters.

    Args:
        server: The API server.
        timeout_seconds: How long a cluster may take to end.
        now: The clock.
    """

    def __init__(
        self,
        server: SkyServer,
        *,
        timeout_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._looks = Looks()

    def list_all(self) -> list[ClusterStatus]:
        """List the server's clusters, each with Oumi's name of its cloud if there is one."""
        self._server.check(within_seconds=_SERVER_SECONDS)
        clusters = self._server.clusters()
        if not clusters:
            return []
        clouds = self._server.cloud_names()
        costs, live_jobs = self._details(clusters)
        return [
            ClusterStatus(
                cloud=clouds.get(cluster.cloud, cluster.cloud.lower()),
                cluster_name=cluster.name,
                state=STATE_OF_CLUSTER[cluster.state],
                live_jobs=live_jobs.get(cluster.name),
                nodes=cluster.nodes,
                resources=cluster.resources,
                hourly_cost=cluster.hourly_cost,
                uptime_seconds=self._uptime(cluster),
                # SkyPilot also reports 0 where it knows no price.
                cost_so_far=costs.get(cluster.name) or None,
                autostop_minutes=cluster.autostop if cluster.autostop >= 0 else None,
            )
            for cluster in clusters
        ]

    def _details(
        self, clusters: list[SkyCluster]
    ) -> tuple[dict[str, float], dict[str, list[str] | None]]:
        """The cost so far and the live jobs of each cluster that answers in time."""
        costs: dict[str, float] = {}

        def learn_costs() -> None:
            costs.update(self._server.costs())

        asked = {cluster.name: partial(self._live_jobs, cluster) for cluster in clusters}
        jobs = self._looks.answers({_COSTS: learn_costs, **asked}, within_seconds=_ANSWER_SECONDS)
        return costs, {name: jobs.get(name) for name in asked}

    def look_at(self, cloud: str, cluster_name: str) -> None:
        """Check that the cluster exists; fail soon if the server does not answer."""
        self._server.check(within_seconds=_SERVER_SECONDS)
        self._find(cloud, cluster_name)

    def stop(self, cloud: str, cluster_name: str) -> None:
        """Stop a cluster; return once it is confirmed as stopped."""
        if self._find(cloud, cluster_name).state is SkyClusterState.STOPPED:
            return
        self._server.stop(cluster_name)
        self._confirm(cluster_name, lambda seen: seen is SkyClusterState.STOPPED, "stop")

    def down(self, cloud: str, cluster_name: str) -> None:
        """Destroy a cluster; return once it is confirmed as gone."""
        self._find(cloud, cluster_name)
        self._server.down(cluster_name)
        self._confirm(cluster_name, lambda seen: seen is None, "be taken down")

    def _find(self, cloud: str, cluster_name: str) -> SkyCluster:
        cluster = self._server.cluster(cluster_name)
        if cluster is None or self._server.cloud_names().get(cluster.cloud) != cloud:
            raise ClusterNotFound(
                f"there is no cluster {cluster_name} on {cloud}",
                "See the clusters in list_clusters",
            )
        return cluster

    def _confirm(
        self, cluster_name: str, is_done: Callable[[SkyClusterState | None], bool], request: str
    ) -> None:
        """Check the cluster itself until the request is done."""
        never = threading.Event()
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            cluster = self._server.cluster(cluster_name, refresh=True)
            state = cluster.state if cluster is not None else None
            if is_done(state):
                return
            if time.monotonic() > deadline:
                raise ClusterUnreachable(
                    f"cluster {cluster_name} was asked to {request} and is {state or 'gone'}",
                    "Look at it in the cloud's own console; it may still cost money",
                )
            never.wait(_LOOK_SECONDS)

    def _live_jobs(self, cluster: SkyCluster) -> list[str] | None:
        if cluster.state is SkyClusterState.STOPPED:
            return []
        if cluster.state is not SkyClusterState.UP:
            return None
        try:
            jobs = self._server.queue(cluster.name)
        except (OumiFlowsError, SkyFailed):
            return None  # the others are still listed
        if jobs is None:
            return None
        return [job.job_id for job in jobs if not job.state.is_terminal]

    def _uptime(self, cluster: SkyCluster) -> float | None:
        is_up = cluster.state is SkyClusterState.UP
        return max(0.0, self._now() - cluster.launched_at) if is_up else None
