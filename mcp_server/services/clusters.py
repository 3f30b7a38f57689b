"""What can be done with clusters; the tools and the terminal both call this."""

from typing import Final, Literal

from pydantic import Field

from flows import names
from flows.errors import ClusterNotFound
from flows.models import ClusterEnd, ClusterList, ClusterState, ClusterStatus, Value
from mcp_server.services.worker_calls import WorkerCalls

LIST_SECONDS: Final = 150.0
"""How long a listing may take: SkyPilot asks each cluster for its jobs."""
END_SECONDS: Final = 240.0
"""How long to wait for the end of a cluster; it goes on afterwards."""
_MOST: Final = 40


class ClusterChange(Value):
    """A cluster that was stopped or destroyed, or would be."""

    summary: str = Field(description="One line a person can read.")
    done: bool = Field(description="False: this is a preview, and nothing was changed.")
    cloud: str
    cluster_name: str
    state: Literal["launching", "up", "stopping", "stopped", "gone"]
    live_jobs: list[str] | None = Field(
        default=None, description="Launcher job ids that would be lost; null: not known."
    )


class ClusterService:
    """Clusters: list, stop and destroy them. The worker does it, in flows of its own.

    Args:
        calls: How to ask the worker.
    """

    def __init__(self, calls: WorkerCalls) -> None:
        self._calls = calls

    async def list(self, cloud: str = "") -> ClusterList:
        """The clusters of a cloud, or of every cloud that can be asked.

        Raises:
            CloudUnavailable: That one cloud is unknown or not set up.
        """
        listed = await self._calls.call(
            names.LIST_CLUSTERS_FLOW, {"cloud": cloud}, ClusterList, timeout_seconds=LIST_SECONDS
        )
        if len(listed.clusters) <= _MOST:
            return listed
        summary = f"{listed.summary} Only the first {_MOST} are shown: name a cloud."
        return listed.model_copy(update={"summary": summary, "clusters": listed.clusters[:_MOST]})

    async def find(self, cloud: str, cluster_name: str) -> ClusterStatus:
        """One cluster.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
        """
        for cluster in (await self.list(cloud)).clusters:
            if cluster.cluster_name == cluster_name:
                return cluster
        raise ClusterNotFound(
            f"There is no cluster {cluster_name!r} on {cloud}",
            "See list_clusters for what there is",
        )

    async def stop(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Stop a cluster and keep its disks; returns once it was seen to be stopped.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
            OperationTimeout: It is still stopping.
        """
        return await self._end(names.STOP_CLUSTER_FLOW, "stop", cloud, cluster_name)

    async def preview_down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """What `down` would destroy; changes nothing.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
        """
        cluster = await self.find(cloud, cluster_name)
        return ClusterChange(
            summary=f"IRREVERSIBLE: {_loss(cluster)}",
            done=False,
            cloud=cloud,
            cluster_name=cluster_name,
            state=_STATE[cluster.state],
            live_jobs=cluster.live_jobs,
        )

    async def down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Destroy a cluster and its disks; returns once it was seen to be gone.

        Raises:
            ClusterNotFound: There is none of that name on that cloud.
            OperationTimeout: It is still being taken down.
        """
        return await self._end(names.DOWN_CLUSTER_FLOW, "down", cloud, cluster_name)

    async def _end(self, flow: str, verb: str, cloud: str, cluster_name: str) -> ClusterChange:
        ended = await self._calls.call(
            flow,
            {"cloud": cloud, "cluster_name": cluster_name},
            ClusterEnd,
            timeout_seconds=END_SECONDS,
            name=f"{verb}-{cluster_name}",
            if_late="leave",
        )
        return ClusterChange(
            summary=ended.summary,
            done=True,
            cloud=cloud,
            cluster_name=cluster_name,
            state=ended.state,
        )


_STATE: Final[dict[ClusterState, Literal["launching", "up", "stopping", "stopped"]]] = {
    ClusterState.LAUNCHING: "launching",
    ClusterState.UP: "up",
    ClusterState.STOPPING: "stopping",
    ClusterState.STOPPED: "stopped",
}


def _loss(cluster: ClusterStatus) -> str:
    """What is lost with a cluster."""
    where = f"cluster {cluster.cluster_name} on {cluster.cloud}"
    if cluster.cloud == names.LOCAL_CLOUD:
        return f"every live job of {where} ({_jobs(cluster)}) is cancelled; logs stay."
    return f"{where}, its disks and what runs on it ({_jobs(cluster)}) are destroyed."


def _jobs(cluster: ClusterStatus) -> str:
    if cluster.live_jobs is None:
        return "its jobs are not known"
    count = len(cluster.live_jobs)
    return f"{count or 'no'} live job{'' if count == 1 else 's'}"
