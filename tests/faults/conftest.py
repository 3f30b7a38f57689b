"""Jobs on the session's engine, and engines that may be killed."""

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from flows.core.settings import Settings
from flows.launcher.local.store import LocalStore
from mcp_server.engine import Engine
from tests.support.job_driver import JobDriver, job_driver
from tests.support.prepared import PreparedEngine
from tests.support.shifted_clock import ShiftedClock, can_shift_clocks
from tests.support.stack import Stack
from tests.support.waiting import eventually_sync

SEED_ENV = "KILL_ROUNDS_SEED"


@pytest.fixture
async def jobs(stack: Stack, tmp_path: Path) -> AsyncIterator[JobDriver]:
    folder = tmp_path / "client"
    folder.mkdir()
    connection = stack.connection
    environ = {
        "PREFECT_API_URL": connection.api_url,
        "PREFECT_API_AUTH_STRING": connection.auth_string or "",
    }
    home = Path(stack.env["OUMI_FLOWS_HOME"])
    async with job_driver(connection, home, folder, environ) as driver:
        yield driver


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
def engine(home: Path, env: dict[str, str], prepared: PreparedEngine) -> Iterator[Engine]:
    """An engine of the test's own, whose worker is still loading Oumi."""
    settings = Settings(home=home, local_slots=4, engine_timeout_seconds=120)
    prepared.copy_to(home)
    engine = Engine(settings, environ=env)
    try:
        engine.ensure()
        yield engine
    finally:
        engine.down()
        end_jobs(settings.local_dir)


@pytest.fixture
def dice() -> random.Random:
    """Has a new seed each time, unless the environment gives that of an earlier run."""
    seed = os.environ.get(SEED_ENV) or str(random.randrange(10**9))
    print(f"\n{SEED_ENV}={seed}")
    return random.Random(seed)


def end_jobs(local_dir: Path) -> None:
    """End what a failed test has left."""
    store = LocalStore(local_dir, slots=1, cancel_grace_seconds=1.0)
    for job in store.live_jobs():
        store.cancel(job.cluster, job.job_id, grace_seconds=0.0, wait_seconds=0.0)
    eventually_sync(lambda: not store.live_jobs())
