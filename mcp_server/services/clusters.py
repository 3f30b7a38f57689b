"""The use cases of clusters; the tools and the terminal both call this."""

from typing import Final, Literal

from pydantic import Field

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.errors import ClusterNotFound, ClusterUnreachable, OperationTimeout
from flows.core.models import ClusterEnd, ClusterList, ClusterState, ClusterStatus, Value
from mcp_server.services.cluster_jobs import ClusterJobs, are_ending, list_some, name_live_jobs
from mcp_server.services.worker_calls import WorkerCalls

LIST_SECONDS: Final = 60.0
"""Limit of a listing by a busy worker; each cloud has a few seconds."""
END_SECONDS: Final = 2.3
"""How long to wait for the end of a cluster; the order continues afterwards."""
_MOST: Final = 40


class ClusterChange(Value):
    """A cluster that was stopped or destroyed, or would be."""

    summary: str = Field(description="One line a person can read.")
    done: bool = Field(description="False: a preview that changed nothing, or not confirmed yet.")
    cloud: str
    cluster_name: str
    state: Literal["launching", "up", "stopping", "stopped", "ending", "gone"]
    live_jobs: list[str] | None = Field(
        default=None, description="Launcher job ids that would be lost; null: unknown."
    )


class ClusterService:
    """Lists, stops and destroys clusters. The worker does it, in flows of its own.

    Args:
        calls: How to ask the worker.
        jobs: Our jobs on clusters.
    """

    def __init__(self, calls: WorkerCalls, jobs: ClusterJobs) -> None:
        self._calls = calls
        self._jobs = jobs

    async def list(self, cloud: str = "") -> ClusterList:
        """List the clusters of a cloud, or of every cloud that answers.

        Raises:
            CloudUnavailable: The cloud is unknown or not set up.
        """
        listed = await self._read_list(cloud)
        if len(listed.clusters) <= _MOST:
            return listed
        summary = f"{listed.summary} Only the first {_MOST} are shown: name a cloud."
        return listed.model_copy(update={"summary": summary, "clusters": listed.clusters[:_MOST]})

    async def find(self, cloud: str, cluster_name: str) -> ClusterStatus:
        """One cluster.

        Raises:
            ClusterNotFound: The cloud has no cluster of that name.
        """
        for cluster in (await self._read_list(cloud)).clusters:
            if cluster.cluster_name == cluster_name:
                return cluster
        raise ClusterNotFound(
            f"There is no cluster {cluster_name!r} on {cloud}",
            "List the clusters with list_clusters",
        )

    async def stop(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Stop a cluster and keep its disks; `done` once the cloud reports it stopped.

        Raises:
            ClusterNotFound: The cloud has no cluster of that name.
            ClusterUnreachable: It does not answer; nothing was changed.
        """
        return await self._end(names.STOP_CLUSTER_FLOW, "stop", cloud, cluster_name)

    async def preview_stop(self, cloud: str, cluster_name: str) -> ClusterChange | None:
        """Preview which jobs of a local cluster `stop` would cancel; change nothing.

        Returns:
            None if a person need not decide: the cluster is on a cloud, or every live job of it
            was asked to end before.

        Raises:
            ClusterNotFound: The cloud has no cluster of that name.
        """
        if not is_local(cloud):
            return None
        cluster = await self.find(cloud, cluster_name)
        if are_ending(cluster, await self._jobs.live(cloud, cluster_name)):
            return None
        return _preview(cluster, await self._loss(cluster))

    async def preview_down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Preview what `down` would destroy; change nothing.

        Raises:
            ClusterNotFound: The cloud has no cluster of that name.
        """
        cluster = await self.find(cloud, cluster_name)
        return _preview(cluster, f"IRREVERSIBLE: {await self._loss(cluster)}")

    async def down(self, cloud: str, cluster_name: str) -> ClusterChange:
        """Destroy a cluster and its disks; `done` once the cloud reports it gone.

        Raises:
            ClusterNotFound: The cloud has no cluster of that name.
            ClusterUnreachable: It does not answer; nothing was changed.
        """
        return await self._end(names.DOWN_CLUSTER_FLOW, "down", cloud, cluster_name)

    async def _read_list(self, cloud: str) -> ClusterList:
        return await self._calls.call(
            names.LIST_CLUSTERS_FLOW, {"cloud": cloud}, ClusterList, timeout_seconds=LIST_SECONDS
        )

    async def _loss(self, cluster: ClusterStatus) -> str:
        """Describe what is lost with a cluster."""
        where = f"cluster {cluster.cluster_name} on {cluster.cloud}"
        if not is_local(cluster.cloud):
            loss = f"{where}, its disks and what runs on it ({_jobs(cluster)}) are destroyed."
            return f"{loss}{_warning(await self._jobs.find_uncollected(*_address(cluster)))}"
        ours = await self._jobs.live(cluster.cloud, cluster.cluster_name)
        live = name_live_jobs(cluster, ours)
        listed = f": {list_some(live)}" if live else " (no live jobs)"
        return f"every live job of {where} is cancelled{listed}. Logs and checkpoints stay."

    async def _end(self, flow: str, verb: str, cloud: str, cluster_name: str) -> ClusterChange:
        try:
            if is_local(cloud) and await self._jobs.live(cloud, cluster_name):
                await self.find(cloud, cluster_name)
                if left := await self._jobs.end(cloud, cluster_name):
                    first = f"Its jobs end first: {left} Call again."
                    return _not_yet(flow, cloud, cluster_name, first)
            ended = await self._calls.order(
                flow,
                {"cloud": cloud, "cluster_name": cluster_name},
                ClusterEnd,
                timeout_seconds=END_SECONDS,
                name=f"{verb}-{cluster_name}",
            )
        except OperationTimeout as error:
            raise ClusterUnreachable(
                f"Cluster {cluster_name} on {cloud} did not answer in time; nothing was changed",
                "Try again once list_clusters shows it",
            ) from error
        if ended is None:
            return _not_yet(flow, cloud, cluster_name, "Call again, or see list_clusters.")
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


def _preview(cluster: ClusterStatus, summary: str) -> ClusterChange:
    return ClusterChange(
        summary=summary,
        done=False,
        cloud=cluster.cloud,
        cluster_name=cluster.cluster_name,
        state=_STATE[cluster.state],
        live_jobs=cluster.live_jobs,
    )


def _not_yet(flow: str, cloud: str, cluster_name: str, what_next: str) -> ClusterChange:
    return ClusterChange(
        summary=f"The end of cluster {cluster_name} on {cloud} was ordered and is not confirmed "
        f"yet. {what_next}",
        done=False,
        cloud=cloud,
        cluster_name=cluster_name,
        state="stopping" if flow == names.STOP_CLUSTER_FLOW else "ending",
    )


def _address(cluster: ClusterStatus) -> tuple[str, str]:
    return cluster.cloud, cluster.cluster_name


def _warning(uncollected: list[str]) -> str:
    """Name the jobs whose results would be lost; empty if there are none."""
    if not uncollected:
        return ""
    return (
        f" The results of {len(uncollected)} jobs were not collected: {list_some(uncollected)}. "
        "collect_results copies them first."
    )


def _jobs(cluster: ClusterStatus) -> str:
    if cluster.live_jobs is None:
        return "its jobs are not known"
    count = len(cluster.live_jobs)
    return f"{count or 'no'} live job{'' if count == 1 else 's'}"
