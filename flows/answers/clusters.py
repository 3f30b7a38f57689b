"""Flows about clusters: list them, stop one, destroy one.

A flow looks at the cluster before it orders its end. Until the run has the label `oumi.ordered`
nothing has changed: a cancel of the run before that keeps the cluster.
"""

from functools import partial
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import Abort
from prefect.tasks import Task

from flows.answers.answering import answering
from flows.core.configs.clouds import kind_of
from flows.core.errors import ClusterNotFound, ClusterUnreachable
from flows.core.models import ClusterEnd, ClusterList, ClusterState
from flows.core.names import (
    DOWN_CLUSTER_FLOW,
    LIST_CLUSTERS_FLOW,
    STOP_CLUSTER_FLOW,
)
from flows.core.run_labels import RunLabels
from flows.job.run_record import RunRecord
from flows.job.runtime import current_runtime
from flows.launcher.port import Clusters

_RETRIES = 3
_RETRY_DELAYS_SECONDS = [2.0, 10.0, 30.0]


@flow(name=LIST_CLUSTERS_FLOW, persist_result=False, description="List Oumi's clusters.")
@answering
async def list_clusters(cloud: str = "") -> ClusterList:
    """List the clusters of a cloud, or of every cloud that can be asked.

    Args:
        cloud: Oumi's name of the cloud; empty: all clouds.
    """
    try:
        listed = await current_runtime().launcher.clusters(cloud)
    except ClusterUnreachable as error:
        raise ClusterUnreachable(error.what, "Try again once it answers") from error
    return ClusterList(
        summary=_summarize(listed, cloud),
        clusters=listed.clusters,
        unavailable=listed.unavailable,
    )


def _summarize(listed: Clusters, cloud: str) -> str:
    count = len(listed.clusters)
    summary = f"{count} cluster{'' if count == 1 else 's'}" + (f" on {cloud}." if cloud else ".")
    silent = [
        item.cluster_name
        for item in listed.clusters
        if item.live_jobs is None and item.state is ClusterState.UP
    ]
    if silent:
        summary += f" Jobs not known yet: {', '.join(silent[:3])}."
    if listed.unavailable:
        summary += f" Not asked: {', '.join(sorted(listed.unavailable))}."
    return summary


@flow(name=STOP_CLUSTER_FLOW, persist_result=False, description="Stop a cluster, keep its disks.")
@answering
async def stop_cluster(cloud: str, cluster_name: str) -> ClusterEnd:
    """Stop a cluster, and verify that it is stopped.

    Args:
        cloud: Oumi's name of its cloud.
        cluster_name: Its name.
    """
    await _about_to_order(cloud, cluster_name)
    try:
        await stop(cloud, cluster_name)
    except ClusterUnreachable as error:
        raise _not_confirmed(error) from error
    kept = " Its disks are kept and billed." if kind_of(cloud).keeps_clusters else ""
    return ClusterEnd(
        summary=f"Cluster {cluster_name} on {cloud} is stopped.{kept}",
        cloud=cloud,
        cluster_name=cluster_name,
        state="stopped",
    )


@flow(name=DOWN_CLUSTER_FLOW, persist_result=False, description="Destroy a cluster and its disks.")
@answering
async def down_cluster(cloud: str, cluster_name: str) -> ClusterEnd:
    """Destroy a cluster, and verify that it is gone.

    Args:
        cloud: Oumi's name of its cloud.
        cluster_name: Its name.
    """
    was_ordered = await _about_to_order(cloud, cluster_name)
    try:
        await down(cloud, cluster_name)
    except ClusterNotFound:
        if not was_ordered:
            raise
    except ClusterUnreachable as error:
        raise _not_confirmed(error) from error
    return ClusterEnd(
        summary=f"Cluster {cluster_name} on {cloud} is gone.",
        cloud=cloud,
        cluster_name=cluster_name,
        state="gone",
    )


async def _about_to_order(cloud: str, cluster_name: str) -> bool:
    """Look at the cluster once, and note on the run that its end is ordered next.

    Returns:
        Whether an earlier execution of the run noted it.

    Raises:
        Abort: The run was cancelled.
    """
    record = RunRecord.current()
    was_ordered = record.labels.ordered
    if not was_ordered:
        await _look(cloud, cluster_name)
        await record.label(RunLabels(ordered=True))
    # A cancel writes its state and then reads the label; this writes the label and then reads the
    # state. So at least one of the two sees the other.
    await record.reload()
    if record.is_cancelling or record.is_concluded:
        raise Abort(f"The request to end {cluster_name} was cancelled.")
    return was_ordered


async def _look(cloud: str, cluster_name: str) -> None:
    """Look at a cluster before its end is ordered."""
    try:
        await current_runtime().launcher.look_at_cluster(cloud, cluster_name)
    except ClusterUnreachable as error:
        raise ClusterUnreachable(
            f"{error.what.rstrip('. ')}; nothing was changed",
            "Try again once list_clusters shows the cluster",
        ) from error


def _not_confirmed(error: ClusterUnreachable) -> ClusterUnreachable:
    return ClusterUnreachable(
        f"{error.what.rstrip('. ')}; its end was ordered and is not confirmed",
        "Check its state with list_clusters or the cloud's console; it may still cost money",
    )


def _may_pass(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether the next try may succeed."""
    return isinstance(state.data, ClusterUnreachable)


_patient_task = partial(
    task,
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=_RETRIES,
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=_may_pass,
)
"""A task that is tried again while its cluster does not answer."""


@_patient_task(task_run_name="stop {cluster_name}")
async def stop(cloud: str, cluster_name: str) -> None:
    """Stop a cluster; a stopped one stays stopped."""
    runtime = current_runtime()
    with runtime.ending_cluster(cloud, cluster_name):
        await runtime.launcher.stop_cluster(cloud, cluster_name)


@_patient_task(task_run_name="down {cluster_name}")
async def down(cloud: str, cluster_name: str) -> None:
    """Destroy a cluster; one that an earlier try destroyed is gone."""
    runtime = current_runtime()
    try:
        with runtime.ending_cluster(cloud, cluster_name):
            await runtime.launcher.down_cluster(cloud, cluster_name)
    except ClusterNotFound:
        run = TaskRunContext.get()
        if run is None or run.task_run.run_count <= 1:
            raise
