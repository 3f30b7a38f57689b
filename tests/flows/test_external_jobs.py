"""Jobs that oumi-flows did not launch, through the service, the API, the flows and a launcher."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from flows.core import names
from flows.core.errors import (
    AmbiguousId,
    ClusterUnreachable,
    Conflict,
    InvalidArgument,
    JobAlreadyDone,
    JobNotFound,
)
from flows.core.models import JobHandle
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.jobs.service import JobService, Until
from tests.flows.bench import PATIENCE_SECONDS, Bench, Running
from tests.support.fake_launcher import FakeJob
from tests.support.stack import Stack

pytestmark = pytest.mark.engine

Place = dict[str, Any]


@pytest.fixture
def place(bench: Bench) -> Place:
    """A cluster that no other test of the session knows."""
    return {"cloud": "gcp", "cluster_name": bench.pool}


@pytest.fixture
def handle(place: Place) -> JobHandle:
    return JobHandle(cloud=place["cloud"], cluster_name=place["cluster_name"], launcher_job_id="17")


@pytest.fixture
async def jobs(bench: Bench, cold_stack: Stack) -> AsyncGenerator[JobService]:
    deployments = [
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(flow),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint=f"flows.answers.external_jobs.{flow.replace('-', '_')}",
        )
        for flow in (names.EXTERNAL_JOB_FLOW, names.EXTERNAL_LOG_FLOW)
    ]
    gateway = PrefectGateway(
        Running(cold_stack.connection), timeout_seconds=30, work_pool=bench.pool
    )
    async with bench.worker():
        yield JobService(
            gateway,
            snapshots_dir=bench.folder,
            records_dir=bench.folder,
            look_seconds=PATIENCE_SECONDS,
        )
    await gateway.aclose()
    for deployment_id in deployments:
        await bench.client.delete_deployment(deployment_id)


@pytest.fixture
def theirs(bench: Bench, handle: JobHandle) -> FakeJob:
    """A job on a cluster that oumi-flows did not create."""
    job = FakeJob("17", handle.cluster_name, {"run": "hold"}, output=b"step 1\nstep 2\n")
    bench.launcher.jobs["17"] = job
    return job


async def test_the_live_status_of_a_job_of_theirs(
    jobs: JobService, theirs: FakeJob, place: Place
) -> None:
    theirs.state = LauncherState.RUNNING
    status = await jobs.status("17", **place)
    assert (status.state, status.is_done, status.launcher_job_id) == (
        JobState.RUNNING,
        False,
        "17",
    )
    theirs.fail(TerminationReason.OUT_OF_MEMORY, "It was killed.")
    status = await jobs.status("17", **place)
    assert (status.state, status.termination_reason) == (
        JobState.FAILED,
        TerminationReason.OUT_OF_MEMORY,
    )
    assert status.summary == (
        f"job 17 on gcp/{place['cluster_name']} is failed; out_of_memory: It was killed."
    )


async def test_a_job_that_nobody_knows_is_not_found(
    jobs: JobService, bench: Bench, place: Place
) -> None:
    with pytest.raises(JobNotFound, match="knows no job '17'"):
        await jobs.status("17", **place)
    with pytest.raises(InvalidArgument, match="no cluster is given"):
        await jobs.status("17", cloud="gcp")
    bench.launcher.unreachable = "on holiday"
    with pytest.raises(ClusterUnreachable, match="on holiday"):
        await jobs.status("17", **place)


async def test_their_log_is_read_by_cursor(jobs: JobService, theirs: FakeJob, place: Place) -> None:
    page = await jobs.logs("17", lines=1, **place)
    assert (page.logs, page.at_end) == ("step 2", False)
    theirs.output += b"step 3 of hf_AbCdEfGh0123456789\nstep"
    page = await jobs.logs("17", lines=80, cursor=page.next_cursor, **place)
    assert (page.logs, page.at_end) == ("step 3 of ***", False)
    theirs.output += b" 4"
    theirs.succeed()
    page = await jobs.logs("17", lines=80, cursor=page.next_cursor, **place)
    assert (page.logs, page.at_end) == ("step 4", True)
    with pytest.raises(InvalidArgument, match="belongs to another job"):
        await jobs.logs("17", lines=80, cursor="prefect:3", **place)


async def test_their_job_is_cancelled_on_its_cluster(
    jobs: JobService, theirs: FakeJob, place: Place
) -> None:
    theirs.stubborn, theirs.state = True, LauncherState.RUNNING
    assert (await jobs.cancel("17", **place)).state is JobState.CANCELLING
    assert (await jobs.cancel("17", force=True, **place)).state is JobState.CANCELLED
    with pytest.raises(JobAlreadyDone, match="has ended, it is cancelled"):
        await jobs.cancel("17", **place)


async def test_an_adopted_job_is_one_of_ours(
    jobs: JobService, theirs: FakeJob, bench: Bench, place: Place, handle: JobHandle
) -> None:
    adopted = await jobs.adopt(handle)
    job_id = adopted.job_id
    assert (await jobs.adopt(handle)).job_id == job_id
    running = await jobs.wait(job_id, until=Until.RUNNING, timeout_seconds=PATIENCE_SECONDS)
    assert (running.state, running.name) == (JobState.RUNNING, "gcp job 17")
    # Its own id on the cluster means our job now.
    assert (await jobs.status("17", **place)).job_id == job_id
    theirs.output += b"ValueError: at last\n"
    theirs.fail(TerminationReason.NONZERO_EXIT, "The job exited with code 1.")
    ended = await jobs.wait(job_id, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)
    assert (ended.state, ended.error_tail) == (
        JobState.FAILED,
        "step 1\nstep 2\nValueError: at last",
    )
    assert bench.launcher.launches == []
    with pytest.raises(Conflict, match="was adopted"):
        await jobs.retry(job_id)


async def test_a_job_of_ours_is_known_however_many_came_after_it(
    jobs: JobService,
    theirs: FakeJob,
    bench: Bench,
    handle: JobHandle,
    place: Place,
) -> None:
    first = (await jobs.adopt(handle)).job_id
    for number in range(18, 22):
        job_id = str(number)
        later = FakeJob(job_id, handle.cluster_name, {"run": "hold"})
        bench.launcher.jobs[job_id] = later
        adopted = await jobs.adopt(handle.model_copy(update={"launcher_job_id": job_id}))
        later.succeed()
        await jobs.wait(adopted.job_id, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)
    assert (await jobs.status("17", **place)).job_id == first
    assert (await jobs.adopt(handle)).job_id == first
    theirs.succeed()
    await jobs.wait(first, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)


async def test_an_id_that_two_clusters_have_is_ambiguous_and_nothing_is_cancelled(
    jobs: JobService, bench: Bench
) -> None:
    bench.launcher.counts_ids = True
    bench.launcher.jobs.clear()
    clusters = [f"{bench.pool}-{letter}" for letter in "ab"]
    config = bench.folder / "cloud.yaml"
    config.write_text("name: cloud\nrun: hold\n")
    ids = [
        await bench.submit_config(config, cloud="lambda", cluster_name=cluster)
        for cluster in clusters
    ]
    for job_id in ids:
        await bench.reaches(job_id, JobState.RUNNING)
    # A run that an earlier version launched is known by its labels alone.
    await bench.client.update_flow_run(ids[0], tags=["oumi", "cloud:lambda"])
    handle = JobHandle(cloud="lambda", cluster_name="", launcher_job_id="1")
    for call in (
        lambda: jobs.cancel("1", cloud="lambda"),
        lambda: jobs.status("1", cloud="lambda"),
        lambda: jobs.logs("1", lines=5, cloud="lambda"),
        lambda: jobs.adopt(handle),
    ):
        with pytest.raises(AmbiguousId, match="2 clusters of lambda") as raised:
            await call()
        for named in (*clusters, *map(str, ids)):
            assert named in str(raised.value)
    assert all(job.cancels == 0 for job in bench.launcher.jobs.values())
    for job_id, cluster in zip(ids, clusters, strict=True):
        status = await jobs.status("1", cloud="lambda", cluster_name=cluster)
        assert status.job_id == str(job_id)
    await jobs.cancel("1", cloud="lambda", cluster_name=clusters[1])
    assert (await bench.ending(ids[1]))[0] is JobState.CANCELLED
    assert not (await bench.launched(ids[0])).state.is_terminal
    (await bench.launched(ids[0])).succeed()
    await bench.ending(ids[0])


async def test_a_job_of_a_cluster_made_anew_is_another_one(
    jobs: JobService, theirs: FakeJob, bench: Bench, place: Place, handle: JobHandle
) -> None:
    first = (await jobs.adopt(handle)).job_id
    theirs.succeed()
    await jobs.wait(first, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)
    assert (await jobs.status("17", **place)).job_id == first
    bench.launcher.jobs["17"] = FakeJob("17", handle.cluster_name, {"run": "hold"})
    assert (await jobs.status("17", **place)).job_id == "17"
    second = (await jobs.adopt(handle)).job_id
    assert second != first
    assert (await jobs.adopt(handle)).job_id == second
    await jobs.cancel(second)
    await jobs.wait(second, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)


async def test_an_adopted_job_is_cancelled_like_ours(
    jobs: JobService, theirs: FakeJob, handle: JobHandle
) -> None:
    adopted = await jobs.adopt(handle)
    await jobs.cancel(adopted.job_id)
    ended = await jobs.wait(adopted.job_id, until=Until.DONE, timeout_seconds=PATIENCE_SECONDS)
    assert ended.state is JobState.CANCELLED
    assert theirs.state is LauncherState.CANCELLED


async def test_a_job_that_is_not_there_is_not_adopted(
    jobs: JobService, bench: Bench, handle: JobHandle
) -> None:
    with pytest.raises(JobNotFound):
        await jobs.adopt(handle)
