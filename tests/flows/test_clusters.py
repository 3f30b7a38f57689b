"""The flows about clusters, run by a worker and asked for as the MCP server does."""

import contextlib
import time
from collections.abc import AsyncGenerator

import pytest
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.errors import ClusterNotFound, ClusterUnreachable, Conflict, InvalidArgument
from flows.core.models import ClusterState
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.job.run_record import RunRecord
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.cluster_jobs import ClusterJobs
from mcp_server.services.clusters import ClusterService
from mcp_server.services.worker_calls import WorkerCalls
from tests.flows.bench import PATIENCE_SECONDS, Bench, Running
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

CLUSTER = "shared"
CLOUD = "gcp"


@pytest.fixture
async def clusters(
    bench: Bench, cold_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[ClusterService]:
    from flows.answers import clusters as cluster

    for task in (cluster.stop, cluster.down):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)
    deployments = [
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(flow),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint=f"flows.answers.clusters.{flow.replace('-', '_')}",
        )
        for flow in (names.LIST_CLUSTERS_FLOW, names.STOP_CLUSTER_FLOW, names.DOWN_CLUSTER_FLOW)
    ]
    gateway = PrefectGateway(
        Running(cold_stack.connection), timeout_seconds=30, work_pool=bench.pool
    )
    async with bench.worker():
        job = await bench.submit("hold", cloud=CLOUD, cluster_name=CLUSTER)
        await bench.reaches(job, JobState.RUNNING)
        yield ClusterService(WorkerCalls(gateway), ClusterJobs(gateway))
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

    async def is_stopped() -> bool:
        return (await clusters.stop(CLOUD, CLUSTER)).state == "stopped"

    await eventually(is_stopped, timeout=PATIENCE_SECONDS)
    assert "billed" in (await clusters.stop(CLOUD, CLUSTER)).summary
    assert (await clusters.find(CLOUD, CLUSTER)).state is ClusterState.STOPPED
    gone = await clusters.down(CLOUD, CLUSTER)
    assert gone.state == "gone"
    assert (await clusters.list(CLOUD)).clusters == []


@pytest.mark.parametrize("verb", ["stop", "down"])
async def test_a_job_that_ends_with_its_cluster_was_ended_by_us(
    bench: Bench, clusters: ClusterService, verb: str
) -> None:
    job = await bench.submit("hold", cloud=CLOUD, cluster_name=CLUSTER)
    await bench.reaches(job, JobState.RUNNING)
    await (clusters.stop if verb == "stop" else clusters.down)(CLOUD, CLUSTER)
    assert await bench.ending(job) == (
        JobState.CANCELLED,
        TerminationReason.USER_CANCELLED,
        "oumi-flows stopped or destroyed its cluster.",
    )


async def test_a_cluster_that_cannot_be_seen_is_not_ended_and_not_tried_again(
    bench: Bench, clusters: ClusterService
) -> None:
    bench.launcher.unreachable = "away"
    with pytest.raises(ClusterUnreachable) as raised:
        await clusters.stop(CLOUD, CLUSTER)
    assert str(raised.value) == (
        "CLUSTER_UNREACHABLE: away; nothing was changed. Try again once list_clusters shows the "
        "cluster."
    )
    bench.launcher.unreachable = None
    assert bench.launcher.calls["look_at_cluster"] == 1
    assert bench.launcher.calls["stop_cluster"] == 0


async def test_an_end_that_nobody_waits_for_any_more_is_never_ordered(
    bench: Bench, clusters: ClusterService
) -> None:
    bench.launcher.look_gate.clear()
    with pytest.raises(ClusterUnreachable, match="did not answer in time; nothing was changed"):
        await clusters.down(CLOUD, CLUSTER)
    bench.launcher.look_gate.set()
    (run,) = await eventually(lambda: ended(bench, "down"), timeout=PATIENCE_SECONDS)
    assert (run.state_name, bench.launcher.calls["down_cluster"]) == ("Cancelled", 0)


async def test_an_order_that_was_withdrawn_just_before_is_not_given(
    bench: Bench, clusters: ClusterService, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = RunRecord.label

    async def note_and_be_cancelled(record: RunRecord, changes: RunLabels) -> None:
        await note(record, changes)
        if changes.ordered:
            await bench.cancel(record.run.id)

    monkeypatch.setattr(RunRecord, "label", note_and_be_cancelled)
    # A client that sees so late a cancel does not know whether the order was given.
    with contextlib.suppress(Conflict):
        assert not (await clusters.down(CLOUD, CLUSTER)).done
    (run,) = await eventually(lambda: ended(bench, "down"), timeout=PATIENCE_SECONDS)
    assert (run.state_name, bench.launcher.calls["down_cluster"]) == ("Cancelled", 0)


async def test_a_second_call_joins_the_end_that_is_under_way(
    bench: Bench, clusters: ClusterService
) -> None:
    bench.launcher.end_gate.clear()
    began = time.monotonic()
    change = await clusters.down(CLOUD, CLUSTER)
    assert time.monotonic() - began < 30
    assert (change.done, change.state) == (False, "ending")
    assert not (await clusters.down(CLOUD, CLUSTER)).done
    bench.launcher.end_gate.set()

    async def is_done() -> bool:
        return (await clusters.down(CLOUD, CLUSTER)).done

    await eventually(is_done, timeout=PATIENCE_SECONDS)
    assert bench.launcher.calls["down_cluster"] == 1


async def test_what_may_pass_is_tried_again_and_the_run_has_a_name_of_its_own(
    bench: Bench, clusters: ClusterService
) -> None:
    bench.launcher.cluster_errors = [ClusterUnreachable("away", "It is asked again")] * 2
    assert (await clusters.down(CLOUD, CLUSTER)).done
    assert bench.launcher.calls["down_cluster"] == 3
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"down-{CLUSTER}"]))
    assert await bench.client.read_flow_runs(flow_run_filter=named)


async def ended(bench: Bench, verb: str) -> list[FlowRun]:
    """The ended runs that were to end the cluster."""
    named = FlowRunFilter(name=FlowRunFilterName(any_=[f"{verb}-{CLUSTER}"]))
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[bench.pool]))
    runs = await bench.client.read_flow_runs(flow_run_filter=named, work_pool_filter=pool)
    return [run for run in runs if run.state and run.state.is_final()]


async def test_what_does_not_pass_is_said_at_once(bench: Bench, clusters: ClusterService) -> None:
    bench.launcher.cluster_errors = [InvalidArgument("it cannot stop", "Take it down")]
    with pytest.raises(InvalidArgument, match="it cannot stop"):
        await clusters.stop(CLOUD, CLUSTER)
    with pytest.raises(ClusterNotFound):
        await clusters.down(CLOUD, "elsewhere")
    assert bench.launcher.calls["stop_cluster"] == 1
    assert bench.launcher.calls["look_at_cluster"] == 2
    assert bench.launcher.calls["down_cluster"] == 0
