"""The flows about clusters, run by a worker and asked for as the MCP server does."""

from collections.abc import AsyncGenerator

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from flows import names
from flows.errors import ClusterNotFound, ClusterUnreachable, InvalidArgument
from flows.models import ClusterState
from flows.states import JobState
from mcp_server.prefect_gateway import PrefectGateway
from mcp_server.services.clusters import ClusterService
from mcp_server.services.worker_calls import WorkerCalls
from tests.flows.bench import Bench
from tests.flows.test_worker_calls import Running
from tests.support.stack import Stack

pytestmark = pytest.mark.engine

CLUSTER = "shared"


@pytest.fixture
async def clusters(
    bench: Bench, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[ClusterService]:
    from flows import cluster

    for task in (cluster.stop, cluster.down):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)
    deployments = [
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(flow),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint=f"flows.cluster.{flow.replace('-', '_')}",
        )
        for flow in (names.LIST_CLUSTERS_FLOW, names.STOP_CLUSTER_FLOW, names.DOWN_CLUSTER_FLOW)
    ]
    gateway = PrefectGateway(Running(stack.connection), timeout_seconds=30, work_pool=bench.pool)
    async with bench.worker():
        job = await bench.submit("hold", cluster_name=CLUSTER)
        await bench.reaches(job, JobState.RUNNING)
        yield ClusterService(WorkerCalls(gateway))
        await bench.cancel(job)
        await bench.ending(job)
    await gateway.aclose()
    for deployment in deployments:
        await bench.client.delete_deployment(deployment)


async def test_clusters_are_listed_stopped_and_destroyed(
    bench: Bench, clusters: ClusterService
) -> None:
    listed = await clusters.list()
    (cluster,) = listed.clusters
    assert (cluster.cluster_name, cluster.state) == (CLUSTER, ClusterState.UP)
    assert len(cluster.live_jobs or []) == 1
    assert listed.summary == "1 cluster. Not asked: SkyPilot."
    stopped = await clusters.stop("local", CLUSTER)
    assert stopped.state == "stopped"
    assert (await clusters.find("local", CLUSTER)).state is ClusterState.STOPPED
    gone = await clusters.down("local", CLUSTER)
    assert gone.state == "gone"
    assert (await clusters.list("local")).clusters == []


async def test_what_may_pass_is_tried_again_and_the_run_has_a_name_of_its_own(
    bench: Bench, clusters: ClusterService
) -> None:
    bench.launcher.cluster_errors = [ClusterUnreachable("away", "It is asked again")] * 2
    assert (await clusters.down("local", CLUSTER)).done
    assert bench.launcher.calls["down_cluster"] == 3
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"down-{CLUSTER}"]))
    assert await bench.client.read_flow_runs(flow_run_filter=named)


async def test_what_does_not_pass_is_said_at_once(bench: Bench, clusters: ClusterService) -> None:
    bench.launcher.cluster_errors = [InvalidArgument("it cannot stop", "Take it down")]
    with pytest.raises(InvalidArgument, match="it cannot stop"):
        await clusters.stop("local", CLUSTER)
    with pytest.raises(ClusterNotFound):
        await clusters.down("local", "elsewhere")
    assert bench.launcher.calls["stop_cluster"] == 1
    assert bench.launcher.calls["down_cluster"] == 1
