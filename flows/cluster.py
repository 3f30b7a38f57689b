"""Flows about clusters: list them, stop one, destroy one."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import Task

from flows.answers import answering
from flows.errors import ClusterNotFound, ClusterUnreachable
from flows.models import ClusterEnd, ClusterList
from flows.names import DOWN_CLUSTER_FLOW, LIST_CLUSTERS_FLOW, STOP_CLUSTER_FLOW
from flows.runtime import current_runtime

_RETRIES = 3
_RETRY_DELAYS_SECONDS = [2.0, 10.0, 30.0]


@flow(name=LIST_CLUSTERS_FLOW, persist_result=False, description="List Oumi's clusters.")
@answering
async def list_clusters(cloud: str = "") -> ClusterList:
    """The clusters of a cloud, or of every cloud that can be asked.

    Args:
        cloud: Oumi's name of it; empty: all.
    """
    listed = await current_runtime().launcher.clusters(cloud)
    count = len(listed.clusters)
    summary = f"{count} cluster{'' if count == 1 else 's'}" + (f" on {cloud}." if cloud else ".")
    if listed.unavailable:
        summary += f" Not asked: {', '.join(sorted(listed.unavailable))}."
    return ClusterList(summary=summary, clusters=listed.clusters, unavailable=listed.unavailable)


@flow(name=STOP_CLUSTER_FLOW, persist_result=False, description="Stop a cluster, keep its disks.")
@answering
async def stop_cluster(cloud: str, cluster_name: str) -> ClusterEnd:
    """Stop a cluster, and see that it is.

    Args:
        cloud: Oumi's name of its cloud.
        cluster_name: Its name.
    """
    await stop(cloud, cluster_name)
    return ClusterEnd(
        summary=f"Cluster {cluster_name} on {cloud} is stopped; its disks are kept, and cost.",
        cloud=cloud,
        cluster_name=cluster_name,
        state="stopped",
    )


@flow(name=DOWN_CLUSTER_FLOW, persist_result=False, description="Destroy a cluster and its disks.")
@answering
async def down_cluster(cloud: str, cluster_name: str) -> ClusterEnd:
    """Destroy a cluster, and see that it is gone.

    Args:
        cloud: Oumi's name of its cloud.
        cluster_name: Its name.
    """
    await down(cloud, cluster_name)
    return ClusterEnd(
        summary=f"Cluster {cluster_name} on {cloud} is gone.",
        cloud=cloud,
        cluster_name=cluster_name,
        state="gone",
    )


def _may_pass(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether an error may be gone at the next try."""
    return isinstance(state.data, ClusterUnreachable)


@task(
    task_run_name="stop {cluster_name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_pass,
)
async def stop(cloud: str, cluster_name: str) -> None:
    """Stop a cluster; one that is stopped stays so."""
    await current_runtime().launcher.stop_cluster(cloud, cluster_name)


@task(
    task_run_name="down {cluster_name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_pass,
)
async def down(cloud: str, cluster_name: str) -> None:
    """Destroy a cluster; one that an earlier try destroyed is gone."""
    try:
        await current_runtime().launcher.down_cluster(cloud, cluster_name)
    except ClusterNotFound:
        run = TaskRunContext.get()
        if run is None or run.task_run.run_count <= 1:
            raise
