"""Any of our processes may be killed at any moment: no job is lost, doubled or belied."""

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flows.launcher.local_store import LocalStore
from flows.settings import Settings
from mcp_server.engine import Engine
from tests.faults.kill_rounds import Fault, KillRounds
from tests.faults.verdict import judge
from tests.support.reconnecting_client import reconnecting_client
from tests.support.shifted_clock import ShiftedClock, can_shift_clocks
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.engine

SEED_ENV = "KILL_ROUNDS_SEED"
NIGHTLY_ROUNDS = 50


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock | None:
    return ShiftedClock(tmp_path) if can_shift_clocks else None


@pytest.fixture
def env(home: Path, clock: ShiftedClock | None) -> dict[str, str]:
    ours = {"HOME": str(home), "LOCAL_SLOTS": "4", "ENGINE_TIMEOUT_SECONDS": "120"}
    clock_environ = clock.environ if clock else {}
    return {
        **os.environ,
        **clock_environ,
        **{f"OUMI_FLOWS_{name}": value for name, value in ours.items()},
    }


@pytest.fixture
def engine(home: Path, env: dict[str, str]) -> Iterator[Engine]:
    """An engine of the test's own, whose worker is still loading Oumi."""
    settings = Settings(home=home, local_slots=4, engine_timeout_seconds=120)
    engine = Engine(settings, environ=env)
    try:
        engine.ensure()
        yield engine
    finally:
        engine.down()
        end_jobs(settings.local_dir)


@pytest.fixture
def dice() -> random.Random:
    """Seeded anew each time, unless the environment gives the seed of an earlier time."""
    seed = os.environ.get(SEED_ENV) or str(random.randrange(10**9))
    print(f"\n{SEED_ENV}={seed}")
    return random.Random(seed)


@pytest.fixture
async def rounds(
    engine: Engine,
    clock: ShiftedClock | None,
    env: dict[str, str],
    tmp_path: Path,
    dice: random.Random,
) -> AsyncIterator[KillRounds]:
    folder = tmp_path / "client"
    folder.mkdir()
    async with reconnecting_client(env) as one, reconnecting_client(env) as other:
        yield KillRounds(engine, clock, [one, other], folder, dice)


def end_jobs(local_dir: Path) -> None:
    """End what a failed test has left."""
    store = LocalStore(local_dir, slots=1, cancel_grace_seconds=1.0)
    for job in store.live_jobs():
        store.cancel(job.cluster, job.job_id, grace_seconds=0.0, wait_seconds=0.0)
    eventually_sync(lambda: not store.live_jobs())


def assert_nothing_went_wrong(rounds: KillRounds, home: Path) -> None:
    verdict = judge(
        rounds.jobs,
        connection=rounds.engine.connection(),
        local_dir=home / "local",
        ledger=rounds.ledger,
    )
    print(
        ", ".join(f"{fault}: {rounds.faults[fault]}" for fault in Fault),
        f"\n{verdict.jobs} jobs; answers lost: {sum(c.lost_answers for c in rounds.clients)};",
        f"jobs lost: {len(verdict.lost)}, doubled: {len(verdict.doubled)},",
        f"with a false end: {len(verdict.false_ends)}; processes left: {len(verdict.left_over)}",
    )
    assert verdict.is_clean, verdict


@pytest.mark.timeout(400)
async def test_any_process_can_be_killed_among_jobs(
    rounds: KillRounds, home: Path, dice: random.Random
) -> None:
    # The worker once: it takes long to come back.
    faults = [
        [Fault.MCP_SERVER, Fault.CLOCK],
        [Fault.PREFECT_SERVER],
        [Fault.MCP_SERVER, Fault.PREFECT_SERVER],
        [Fault.WORKER, Fault.PREFECT_SERVER],
    ]
    for together in (faults, *faults):
        dice.shuffle(together)
    await rounds.run(faults)
    assert_nothing_went_wrong(rounds, home)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
async def test_nothing_is_lost_in_many_rounds_of_kills(
    rounds: KillRounds, home: Path, dice: random.Random
) -> None:
    # Sometimes several in a row, the later ones while the engine is just coming back.
    faults = [
        [dice.choice(list(Fault)) for _ in range(dice.choice([1, 1, 1, 2, 3]))]
        for _ in range(NIGHTLY_ROUNDS)
    ]
    await rounds.run(faults)
    assert_nothing_went_wrong(rounds, home)
