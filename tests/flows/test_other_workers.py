"""What happens to the runs of a worker on another machine that is gone, or comes back."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType, Worker, WorkerStatus

from flows.core.settings import Settings
from flows.core.states import JobState, TerminationReason
from flows.worker.other_workers import Gone, OtherWorkers
from flows.worker.ownership import Owner
from flows.worker.pool_runs import PoolRuns
from mcp_server.services.machines import MachineService
from tests.flows.bench import PATIENCE_SECONDS, Bench, state_of
from tests.flows.family import Family, family_on
from tests.support.fake_launcher import FakeJob, FakeLauncher
from tests.support.stack import Stack
from tests.support.waiting import eventually

NOW = datetime(2026, 12, 1, tzinfo=UTC)
POOL = UUID("01a207af-1111-7222-8333-444455556666")


class Pool:
    """A pool whose workers are as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.online: set[str] = set()
        self.offline: set[str] = set()
        self.beats: dict[str, datetime] = {}

    async def read_workers_for_work_pool(self, _: str) -> list[Worker]:
        states = dict.fromkeys(self.offline, WorkerStatus.OFFLINE)
        states |= dict.fromkeys(self.online, WorkerStatus.ONLINE)
        return [
            Worker(
                name=name,
                work_pool_id=POOL,
                status=status,
                last_heartbeat_time=self.beats.get(name),
            )
            for name, status in states.items()
        ]


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def others(pool: Pool) -> OtherWorkers:
    client = cast("PrefectClient", pool)
    return OtherWorkers(
        client, "pool", "me", silent_seconds=10.0, lost_seconds=100.0, monotonic=lambda: pool.now
    )


async def test_a_worker_is_gone_when_it_has_been_offline_for_a_while(
    pool: Pool, others: OtherWorkers
) -> None:
    pool.online, pool.offline = {"me", "lives"}, {"gone", "not asked for"}
    names = {"lives", "gone", "deleted", "me"}
    assert await others.find_gone(names) == (set(), set())
    pool.now = 9.9
    assert await others.find_gone(names) == (set(), set())
    pool.now = 10.0
    assert await others.find_gone(names) == ({"gone", "deleted"}, {"deleted"})
    pool.online.add("gone")
    assert await others.find_gone(names) == ({"deleted"}, {"deleted"})
    pool.online.remove("gone")
    assert await others.find_gone(names) == ({"deleted"}, {"deleted"})


async def test_a_worker_is_lost_when_its_last_heartbeat_is_long_ago(
    pool: Pool, others: OtherWorkers
) -> None:
    pool.online, pool.offline = {"me"}, {"gone"}
    pool.beats = {"me": NOW, "gone": NOW - timedelta(seconds=99)}
    await others.find_gone({"gone"})
    pool.now = 10.0
    assert await others.find_gone({"gone"}) == ({"gone"}, set())
    pool.beats["me"] += timedelta(seconds=1)
    assert await others.find_gone({"gone"}) == ({"gone"}, {"gone"})


class Known(OtherWorkers):
    """Knows that all other workers are gone."""

    def __init__(self) -> None:
        pass

    async def find_gone(self, names: Collection[str]) -> Gone:
        return Gone(set(names), set())


@pytest.mark.parametrize("is_here", [True, False])
@pytest.mark.parametrize("cloud", ["local", "gcp"])
async def test_of_a_machine_with_our_ids_local_jobs_move_only_where_they_are(
    tmp_path: Path, cloud: str, *, is_here: bool
) -> None:
    me = Owner.current(tmp_path, worker="host-a")
    clone = me._replace(machine=f"boot@{me.machine.partition('@')[2]}", worker="host-b")
    run = FlowRun(
        id=POOL,
        flow_id=POOL,
        state=State[None](type=StateType.RUNNING, timestamp=NOW),
        tags=["oumi", f"cloud:{cloud}"],
        infrastructure_pid=str(clone),
    )
    launcher = FakeLauncher()
    if is_here:
        key = f"oumi-{POOL.hex}-1"
        launcher.jobs[key] = FakeJob(key, "local", {})
    client = cast("PrefectClient", None)
    pool_runs = PoolRuns(client, "pool", me, others=Known(), launcher=launcher)
    moves = await pool_runs.choose_orphans([run])
    assert bool(moves) is (is_here or cloud == "gcp")


async def test_after_an_outage_no_worker_is_gone_at_once(pool: Pool, others: OtherWorkers) -> None:
    pool.offline = {"me", "neighbour"}
    for pool.now in (0.0, 20.0):
        assert await others.find_gone({"neighbour"}) == (set(), set())
    pool.online = {"me"}
    assert await others.find_gone({"neighbour"}) == (set(), set())
    pool.now, pool.online = 25.0, {"me", "neighbour"}
    assert await others.find_gone({"neighbour"}) == (set(), set())


@pytest.fixture
async def family(bench: Bench, cold_stack: Stack) -> AsyncGenerator[Family]:
    bench.intervals = replace(bench.intervals, silent=1.5)
    # As a shared server is: an embedded one has no other machines.
    shared = cold_stack.connection.model_copy(update={"embedded": False})
    async with family_on(bench, shared) as made:
        yield made


def elsewhere(bench: Bench, folder: Path) -> Settings:
    """The settings of a worker on another machine."""
    return bench.settings.model_copy(update={"home": folder})


@pytest.mark.engine
async def test_a_worker_takes_up_what_needs_nothing_of_a_machine_that_is_gone(
    family: Family, tmp_path: Path
) -> None:
    bench = family.bench
    beat: dict[str, Any] = {"heartbeat_interval_seconds": 1}
    async with bench.worker(settings=elsewhere(bench, tmp_path / "other home"), **beat) as gone:
        on_cloud = await bench.submit("hold", cloud="gcp")
        here = await bench.submit("hold")
        parent = await family.submit(family.step("train", cloud="gcp"))
        for job_id in (on_cloud, here):
            await bench.launched(job_id)
            await bench.reaches(job_id, JobState.RUNNING)
        train = await family.launched(parent, "train")
    local = await bench.launched(here)
    local.gone = True  # another machine does not know it
    async with bench.worker(**beat) as worker:
        await eventually(lambda: {on_cloud, parent} <= set(worker.active), timeout=PATIENCE_SECONDS)
        assert here not in worker.active
        status = await family.jobs.status(str(here))
        assert (status.state, status.reachable) == (JobState.RUNNING, False)
        assert f"Its machine {gone.name} has not been heard of since" in status.message
        assert gone.name in str((await bench.run(here)).infrastructure_pid)
        (await bench.launched(on_cloud)).succeed()
        train.succeed()
        for job_id in (on_cloud, parent):
            assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
        assert state_of(await bench.run(here)) is JobState.RUNNING
    local.gone = False
    async with bench.worker(settings=elsewhere(bench, tmp_path / "other home")):
        local.succeed()
        assert (await bench.ending(here))[0] is JobState.SUCCEEDED
    assert len(bench.launcher.launches) == 3


@pytest.mark.engine
async def test_the_local_jobs_of_a_machine_that_was_forgotten_are_lost_or_tried_again(
    family: Family, tmp_path: Path
) -> None:
    bench = family.bench
    beat: dict[str, Any] = {"heartbeat_interval_seconds": 1}
    async with bench.worker(settings=elsewhere(bench, tmp_path / "other home"), **beat) as gone:
        once = await bench.submit("hold")
        twice = await bench.submit("hold", max_retries=1)
        for job_id in (once, twice):
            job = await bench.launched(job_id)
            await bench.reaches(job_id, JobState.RUNNING)
            job.gone = True  # the other machine does not know it
    async with bench.worker(**beat):
        await forget_machine(bench, family.machines, gone.name)
        state, reason, _ = await bench.ending(once)
        assert (state, reason) == (JobState.CRASHED, TerminationReason.LOST)
        (await bench.launched(twice, 2)).succeed()
        assert (await bench.ending(twice))[0] is JobState.SUCCEEDED


async def forget_machine(bench: Bench, machines: MachineService, name: str) -> None:
    """Take a worker that is gone out of the pool, as `oumi-flows forget-machine` does."""

    async def is_offline() -> bool:
        found = await bench.client.read_workers_for_work_pool(bench.pool)
        return {worker.name: worker.status for worker in found}[name] is WorkerStatus.OFFLINE

    await eventually(is_offline, timeout=PATIENCE_SECONDS)
    await machines.forget(name)


@pytest.mark.engine
async def test_a_worker_that_comes_back_ends_a_local_job_that_was_given_up(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        me = Owner.current(bench.settings.home)
        another = me._replace(machine="boot@elsewhere", worker="another")
        await bench.client.update_flow_run(job_id, infrastructure_pid=str(another))
        await bench.let_go(worker)
        await eventually(lambda: job.cancels > 0)
        await bench.set_state(job_id, StateType.CANCELLED)


@pytest.mark.engine
async def test_a_worker_ends_at_its_start_what_was_given_up_without_it(
    bench: Bench, tmp_path: Path
) -> None:
    async with bench.worker():
        ids = [await bench.submit("hold") for _ in range(4)]
        jobs = [await bench.launched(job_id) for job_id in ids]
        for job_id in ids:
            await bench.reaches(job_id, JobState.RUNNING)
    ended, taken, deleted, ours = ids
    await bench.set_state(ended, StateType.CRASHED)
    another = Owner.current(tmp_path / "other home", worker="another")
    await bench.client.update_flow_run(taken, infrastructure_pid=str(another))
    await bench.client.delete_flow_run(deleted)
    async with bench.worker() as worker:
        await eventually(lambda: jobs[0].cancels and jobs[1].cancels, timeout=PATIENCE_SECONDS)
        await eventually(lambda: ours in worker.active, timeout=PATIENCE_SECONDS)
        assert [job.cancels for job in jobs[2:]] == [0, 0]
        jobs[3].succeed()
        assert (await bench.ending(ours))[0] is JobState.SUCCEEDED
    await bench.set_state(taken, StateType.CANCELLED)


@pytest.mark.engine
async def test_a_worker_that_comes_back_lets_go_of_what_another_has_taken_up(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold", cloud="gcp")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        me = Owner.current(bench.settings.home)
        another = me._replace(machine="boot@elsewhere", worker="another")
        await bench.client.update_flow_run(job_id, infrastructure_pid=str(another))
        await bench.let_go(worker)
        assert job.cancels == 0
        run = await bench.run(job_id)
        assert state_of(run) is JobState.RUNNING
        assert run.infrastructure_pid == str(another)
        await bench.set_state(job_id, StateType.CANCELLED)
