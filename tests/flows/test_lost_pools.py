"""Runs whose work pool, queue or deployment was deleted are executed and cancelled all the same."""

from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectAlreadyExists

from flows.core import names
from flows.core.states import JobState, TerminationReason
from flows.worker.deployed_flows import DeployedFlows
from flows.worker.ownership import Owner
from flows.worker.pool_runs import PoolRuns
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


async def remake_pool(bench: Bench) -> None:
    """Delete the pool as a person does in the Prefect UI, and make it again as `up` does."""
    await bench.client.delete_work_pool(bench.pool)
    await make_pool(bench)


async def make_pool(bench: Bench) -> None:
    with suppress(ObjectAlreadyExists):  # a worker that lives makes its pool again
        await bench.client.create_work_pool(WorkPoolCreate(name=bench.pool, type=names.WORKER_TYPE))
    again = await bench.client.create_deployment(
        flow_id=await bench.client.create_flow_from_name(names.FLOW_NAME),
        name=bench.pool,
        work_pool_name=bench.pool,
        entrypoint="flows.job.job_flow.run_job",
    )
    assert again == bench.deployment_id


async def running(bench: Bench) -> UUID:
    """A job that runs, whose worker has died."""
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
    return job_id


async def test_a_job_of_a_pool_that_was_made_again_is_followed_to_its_end(bench: Bench) -> None:
    job_id = await running(bench)
    await remake_pool(bench)
    async with bench.worker():
        (await bench.launched(job_id)).succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert len(bench.launcher.launches) == 1


async def test_a_job_that_was_cancelled_meanwhile_is_ended(bench: Bench) -> None:
    job_id = await running(bench)
    await bench.client.delete_work_pool(bench.pool)
    await bench.cancel(job_id)
    await make_pool(bench)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.USER_CANCELLED
    assert (await bench.launched(job_id)).cancels


async def test_a_job_is_cancelled_while_its_worker_lives_and_its_pool_is_gone(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
        await remake_pool(bench)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[1] is TerminationReason.USER_CANCELLED


async def test_a_job_that_had_not_started_starts(bench: Bench) -> None:
    job_id = await bench.submit("exit 0")
    await remake_pool(bench)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def test_a_job_of_a_queue_that_was_deleted_is_followed_to_its_end(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
        queue = (await bench.run(job_id)).work_queue_id
    assert queue is not None
    # The pool's first queue cannot be deleted: make another the run's own.
    other = await bench.client.create_work_queue(name="extra", work_pool_name=bench.pool)
    run = await bench.client.create_flow_run_from_deployment(
        bench.deployment_id,
        parameters=(await bench.run(job_id)).parameters,
        work_queue_name="extra",
    )
    async with bench.worker():
        await bench.reaches(run.id, JobState.RUNNING)
    await bench.client.delete_work_queue_by_id(other.id)
    async with bench.worker():
        for one in (job_id, run.id):
            (await bench.launched(one)).succeed()
            assert (await bench.ending(one))[1] is TerminationReason.COMPLETED


async def test_a_job_of_a_paused_pool_is_adopted_and_cancelled(bench: Bench) -> None:
    job_id, other = await running(bench), await running(bench)
    await bench.client.update_work_pool(bench.pool, WorkPoolUpdate(is_paused=True))
    async with bench.worker():
        (await bench.launched(job_id)).succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
        await bench.cancel(other)
        assert (await bench.ending(other))[1] is TerminationReason.USER_CANCELLED


async def test_what_was_submitted_to_another_pool_is_left_to_that(bench: Bench) -> None:
    job_id = await running(bench)
    await bench.client.update_flow_run_labels(job_id, {"oumi.work_pool": "theirs"})
    await remake_pool(bench)
    pool_runs = PoolRuns(bench.client, bench.pool, Owner.current(bench.settings.home))
    assert job_id not in [run.id for run in await pool_runs.find_lost()]
    await bench.client.update_flow_run_labels(job_id, {"oumi.work_pool": bench.pool})
    assert job_id in [run.id for run in await pool_runs.find_lost()]
    async with bench.worker():
        await bench.cancel(job_id)
        await bench.ending(job_id)


async def test_a_run_of_a_process_worker_is_not_taken(bench: Bench) -> None:
    job_id = await running(bench)
    await bench.client.update_flow_run(job_id, infrastructure_pid="somewhere:1234")
    await remake_pool(bench)
    pool_runs = PoolRuns(bench.client, bench.pool, Owner.current(bench.settings.home))
    assert job_id not in [run.id for run in await pool_runs.find_lost()]
    await bench.client.delete_flow_run(job_id)


@pytest.mark.parametrize("flow", [names.FLOW_NAME, names.PIPELINE_FLOW, names.SWEEP_FLOW])
async def test_a_run_whose_deployment_is_gone_is_still_of_its_flow(bench: Bench, flow: str) -> None:
    run = FlowRun(
        id=uuid4(),
        flow_id=await bench.client.create_flow_from_name(flow),
        deployment_id=uuid4(),
        name="x",
    )
    assert (await DeployedFlows().of(run, client=bench.client)).name == flow


async def test_the_worker_survives_the_loss_of_its_pool(bench: Bench) -> None:
    async with bench.worker() as worker:
        await bench.client.delete_work_pool(bench.pool)
        looks = worker.looks
        await make_pool(bench)
        await eventually(lambda: worker.looks > looks + 2, timeout=PATIENCE_SECONDS)
        job_id = await bench.submit("exit 0")
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
