"""What a worker survives, and which runs it takes."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Abort, ObjectNotFound, Pause
from prefect.workers._worker_channel._sync import WorkPoolWorkerChannel

from flows.core.states import JobState, TerminationReason
from flows.job.intervals import Intervals
from flows.worker.ownership import Owner
from flows.worker.pool_runs import PoolRuns
from tests.flows.bench import PATIENCE_SECONDS, Bench, Outage
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(
    "error",
    [
        Abort("let go"),
        Pause("suspended"),
        httpx.ConnectError("refused"),
        ObjectNotFound(ValueError("deleted")),
        ValueError("a defect"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_run_ends_with_another(bench: Bench, error: BaseException) -> None:
    failed: list[str] = []

    def fail_once(deed: str) -> None:
        if deed == "execution" and not failed:
            failed.append(deed)
            raise error

    bench.wait(unowned=0.2)
    async with bench.worker(before=fail_once):
        first = await bench.submit("exit 0")
        await eventually(lambda: failed, timeout=PATIENCE_SECONDS)
        second = await bench.submit("exit 0")
        # The one whose execution broke off is taken up again, too.
        for job_id in (first, second):
            assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def test_a_run_that_meets_the_same_error_again_and_again_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(**_: object) -> None:
        raise ValueError("no such thing")

    cancelled = await bench.submit("hold")
    await bench.set_state(cancelled, StateType.RUNNING)
    await bench.cancel(cancelled)
    monkeypatch.setattr(bench.launcher, "launch", broken)
    monkeypatch.setattr(bench.launcher, "find", broken)
    bench.wait(unowned=0.2)
    async with bench.worker():
        started = await bench.submit("hold")
        for job_id in (started, cancelled):
            assert await bench.ending(job_id) == (
                JobState.CRASHED,
                TerminationReason.UNSTARTABLE,
                "The worker gave up after the same error 5 times: ValueError: no such thing. "
                "Remove the cause, then call retry_job.",
            )


@pytest.fixture
def heartbeats_by_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a server that the worker has no websocket to, or has lost it."""

    async def no_websocket(*_: object) -> bool:
        return False

    monkeypatch.setattr(WorkPoolWorkerChannel, "_start_websocket", no_websocket)


@pytest.mark.usefixtures("heartbeats_by_rest")
@pytest.mark.parametrize("failing", [0, 500, 503])
async def test_a_heartbeat_that_nobody_hears_does_not_end_the_worker(
    bench: Bench, outage: Outage, failing: int
) -> None:
    async with bench.worker() as worker:
        await eventually(lambda: worker.is_setup, timeout=PATIENCE_SECONDS)
        outage.failing = failing
        await worker.sync_with_backend()
        assert outage.refused
        outage.failing = None


@pytest.mark.usefixtures("heartbeats_by_rest")
async def test_a_worker_that_may_not_speak_to_the_server_says_so(
    bench: Bench, outage: Outage
) -> None:
    async with bench.worker() as worker:
        await eventually(lambda: worker.is_setup, timeout=PATIENCE_SECONDS)
        outage.failing = 401
        with pytest.raises(httpx.HTTPStatusError):
            await worker.sync_with_backend()
        outage.failing = None


async def test_a_look_that_fails_is_followed_by_another(bench: Bench) -> None:
    failed: list[str] = []

    def fail_once(deed: str) -> None:
        if deed == "look" and not failed:
            failed.append(deed)
            raise ValueError("not what was expected")

    async with bench.worker(before=fail_once):
        job_id = await bench.submit("hold")
        await bench.launched(job_id)
        await eventually(lambda: failed, timeout=PATIENCE_SECONDS)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[0] is JobState.CANCELLED


async def test_oumi_that_does_not_load_is_said_and_ends_no_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise ImportError("No module named torch")

    said: list[str] = []
    monkeypatch.setattr(bench.launcher, "warm_up", broken)
    async with bench.worker(say=said.append):
        job_id = await bench.submit("exit 0")
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert [line for line in said if "No module named torch" in line]


async def test_a_run_made_by_hand_gets_a_name_with_its_short_id(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("exit 0", job_name="my run")
        await bench.ending(job_id)
    assert (await bench.run(job_id)).name == f"my run-{str(job_id)[:8]}"


async def test_a_run_deleted_while_it_waits_for_a_slot_does_not_end_the_worker(
    bench: Bench,
) -> None:
    settings = bench.settings.model_copy(update={"local_slots": 1})
    async with bench.worker(settings=settings) as worker:
        first = await bench.submit("hold")
        job = await bench.launched(first)
        gone = FlowRun(id=uuid4(), flow_id=uuid4(), parameters={})
        await worker.show_queued(gone)
        job.succeed()
        assert (await bench.ending(first))[1] is TerminationReason.COMPLETED


async def test_a_run_that_waits_for_a_slot_is_shown_as_queued_once(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"local_slots": 1})
    async with bench.worker(settings=settings) as worker:
        first = await bench.submit("hold")
        job = await bench.launched(first)
        second = await bench.submit("exit 0")
        await bench.reaches(second, JobState.QUEUED)
        looks = worker.looks
        await eventually(lambda: worker.looks > looks + 3, timeout=PATIENCE_SECONDS)
        queued = await bench.client.read_flow_run_states(second)
        assert [state.name for state in queued].count("Late") == 1
        job.succeed()
        assert (await bench.ending(second))[1] is TerminationReason.COMPLETED


async def test_of_two_workers_that_see_an_orphan_one_takes_it(bench: Bench) -> None:
    waits = replace(bench.intervals, claim=0.5)
    job_id = await bench.submit("hold")
    await bench.set_state(job_id, StateType.RUNNING)
    me = Owner.current(bench.settings.home)
    dead = me._replace(started=me.started - 1)
    await bench.client.update_flow_run(job_id, infrastructure_pid=str(dead))
    others = [me._replace(started=me.started + n) for n in range(3)]
    workers = [PoolRuns(bench.client, bench.pool, owner, intervals=waits) for owner in others]
    seen = [await worker.find_orphans() for worker in workers]
    assert [[run.id for run in runs] for runs in seen] == [[job_id]] * 3
    claims = zip(workers, seen, strict=True)
    taken = await asyncio.gather(*(worker.claim(run) for worker, (run,) in claims))
    assert len([run for run in taken if run is not None]) == 1


async def test_a_run_that_ended_since_it_was_seen_is_not_taken(bench: Bench) -> None:
    job_id = await bench.submit("hold")
    await bench.set_state(job_id, StateType.RUNNING)
    owner = Owner.current(bench.settings.home)
    await bench.client.update_flow_run(job_id, infrastructure_pid=str(owner))
    pool = PoolRuns(bench.client, bench.pool, owner)
    (run,) = await pool.find_orphans()
    await bench.set_state(job_id, StateType.CANCELLED)
    assert await pool.claim(run) is None


@pytest.mark.parametrize("kind", [StateType.PENDING, StateType.RUNNING])
async def test_a_run_that_another_worker_executes_is_no_orphan(
    bench: Bench, kind: StateType
) -> None:
    job_id = await bench.submit("hold")
    await bench.set_state(job_id, kind)
    me = Owner.current(bench.settings.home)
    await bench.client.update_flow_run(job_id, infrastructure_pid=str(me))
    neighbour = me._replace(started=me.started - 1)
    another = PoolRuns(bench.client, bench.pool, neighbour, intervals=Intervals(unowned=0.0))
    assert await another.find_orphans() == []
    await bench.client.update_flow_run(job_id, infrastructure_pid=str(neighbour))
    # The same look finds one of a worker that is gone.
    assert [run.id for run in await another.find_orphans()] == [job_id]


async def test_more_runs_than_a_page_are_all_seen(bench: Bench) -> None:
    ids = [await bench.submit("hold") for _ in range(5)]
    for job_id in ids:
        await bench.cancel(job_id)
    pool = PoolRuns(bench.client, bench.pool, Owner.current(bench.settings.home), page=2)
    assert {run.id for run in await pool.find_asking(ids)} == set(ids)


async def test_a_run_of_another_versions_flow_waits_for_a_worker_that_has_it(bench: Bench) -> None:
    async def deploy(entrypoint: str) -> None:
        update = DeploymentUpdate(entrypoint=entrypoint)
        await bench.client.update_deployment(bench.deployment_id, update)

    await deploy("flows.later.run_job")
    async with bench.worker():
        job_id = await bench.submit("exit 0")
        await eventually(lambda: _waits_for_another(bench, job_id), timeout=PATIENCE_SECONDS)

    await deploy("flows.job.run_job")  # where the first version had it
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def _waits_for_another(bench: Bench, job_id: UUID) -> bool:
    state = (await bench.run(job_id)).state
    return state is not None and "`oumi-flows up`" in (state.message or "")
