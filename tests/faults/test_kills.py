"""Any of our processes may be killed at any moment: no job is lost, doubled or belied."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_server.engine import Engine
from tests.faults.kill_rounds import Fault, KillRounds, can_cut_connections
from tests.faults.verdict import judge
from tests.support.reconnecting_client import reconnecting_client
from tests.support.shifted_clock import ShiftedClock

pytestmark = pytest.mark.engine

NIGHTLY_ROUNDS = 50


@pytest.fixture
def env(env: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """The long rounds have a warm host, which takes 10 CPU seconds to come back."""
    if request.node.get_closest_marker("nightly") is None:
        return env
    return {**env, "OUMI_FLOWS_WARM_START": "on", "OUMI_FLOWS_WARM_FREE_MEMORY": "0.05"}


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
    # The worker once: it takes long to come back. Connections are cut while the server lives.
    faults = [
        [Fault.MCP_SERVER, Fault.CLOCK, Fault.CONNECTIONS],
        [Fault.MCP_SERVER, Fault.PREFECT_SERVER],
        [Fault.WORKER, Fault.PREFECT_SERVER],
    ]
    for together in (faults, *faults):
        dice.shuffle(together)
    await rounds.run(faults)
    assert_nothing_went_wrong(rounds, home)
    # Else this says nothing. A machine without a C compiler cannot set the clock.
    wanted = set(Fault) - {Fault.WARM_HOST}
    if not rounds.clock:
        wanted.discard(Fault.CLOCK)
    if not can_cut_connections:
        wanted.discard(Fault.CONNECTIONS)
    assert wanted == {fault for fault, times in rounds.faults.items() if times}


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
