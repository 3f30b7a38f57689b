"""Any of our processes may be killed at any moment: no job is lost, doubled or belied."""

import os
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from flows.settings import Settings
from mcp_server.engine import Engine
from tests.faults.kill_rounds import KillRounds, Victim
from tests.faults.verdict import judge
from tests.support.reconnecting_client import reconnecting_client

pytestmark = pytest.mark.engine

SEED_ENV = "OUMI_FLOWS_TEST_SEED"
NIGHTLY_ROUNDS = 50


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    ours = {"HOME": str(home), "LOCAL_SLOTS": "4", "ENGINE_TIMEOUT_SECONDS": "120"}
    return {**os.environ, **{f"OUMI_FLOWS_{name}": value for name, value in ours.items()}}


@pytest.fixture
def engine(home: Path, env: dict[str, str]) -> Iterator[Engine]:
    """An engine that may be killed."""
    settings = Settings(home=home, local_slots=4, engine_timeout_seconds=120)
    engine = Engine(settings, environ=env)
    try:
        engine.ensure()
        yield engine
    finally:
        engine.down()


@pytest.fixture
def dice() -> random.Random:
    """Seeded anew each time, unless the environment gives the seed of an earlier time."""
    seed = os.environ.get(SEED_ENV) or str(random.randrange(10**9))
    print(f"\n{SEED_ENV}={seed}")
    return random.Random(seed)


async def rounds_of(
    victims: list[list[Victim]],
    engine: Engine,
    env: dict[str, str],
    home: Path,
    dice: random.Random,
) -> None:
    folder = home.with_name("client")
    folder.mkdir()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(reconnecting_client(env)) for _ in range(2)]
        rounds = KillRounds(engine, clients, folder, dice)
        await rounds.run(victims)
    verdict = judge(
        rounds.jobs,
        connection=engine.connection(),
        local_dir=home / "local",
        ledger=rounds.ledger,
    )
    print(
        f"{len(victims)} rounds; killed:",
        ", ".join(f"{victim} {rounds.kills[victim]}" for victim in Victim),
        f"\n{verdict.jobs} jobs, {sum(client.lost_answers for client in clients)} answers lost;",
        f"jobs lost: {len(verdict.lost)}, doubled: {len(verdict.doubled)},",
        f"with a false end: {len(verdict.false_ends)}; processes left: {len(verdict.left_over)}",
    )
    assert verdict.is_clean, verdict


@pytest.mark.timeout(400)
async def test_each_process_can_be_killed_among_jobs(
    engine: Engine, env: dict[str, str], home: Path, dice: random.Random
) -> None:
    # The worker once: it takes long to come back.
    victims = [
        [Victim.MCP_SERVER],
        [Victim.PREFECT_SERVER],
        [Victim.MCP_SERVER, Victim.PREFECT_SERVER],
        [Victim.WORKER, Victim.PREFECT_SERVER],
    ]
    for together in (victims, *victims):
        dice.shuffle(together)
    await rounds_of(victims, engine, env, home, dice)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
async def test_nothing_is_lost_in_many_rounds_of_kills(
    engine: Engine, env: dict[str, str], home: Path, dice: random.Random
) -> None:
    # Sometimes several in a row, the later ones while the engine is just coming back.
    victims = [
        [dice.choice(list(Victim)) for _ in range(dice.choice([1, 1, 1, 2, 3]))]
        for _ in range(NIGHTLY_ROUNDS)
    ]
    await rounds_of(victims, engine, env, home, dice)
