"""A schedule fires on while the processes behind it are killed."""

import asyncio
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from mcp.client import Client

from flows.core.settings import Settings
from mcp_server.engine import Engine
from mcp_server.server import Options, build_server, make_parts
from tests.faults.kill_rounds import Fault
from tests.mcp_server.calls import ok
from tests.support.firings import Firing, assert_accounted_for, firings, noting_job
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

INTERVAL = timedelta(seconds=3)
FIRINGS = 20
RECOVERY_SECONDS = 180


def kill(engine: Engine, fault: Fault) -> int:
    """Kill the server or the worker; its pid."""
    status = engine.status()
    process = status.worker if fault is Fault.WORKER else status.server
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    return process.pid


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("overlap", ["allow", "skip", "queue"])
async def test_every_firing_is_accounted_for_while_server_and_worker_are_killed(
    engine: Engine, home: Path, tmp_path: Path, dice: random.Random, overlap: str
) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    config = noting_job(folder, "often", "sleep 1")
    connection = engine.connection()
    rest = httpx2.Client(
        base_url=connection.api_url, headers=connection.headers, trust_env=False, timeout=20
    )
    parts = make_parts(Settings(home=home, engine_timeout_seconds=120), engine.ensure)
    async with Client(build_server(parts, Options())) as client:
        made = await ok(
            client,
            "schedule_job",
            config_path=str(config),
            client_cwd=str(folder),
            interval_seconds=INTERVAL.total_seconds(),
            overlap=overlap,
            dry_run=False,
        )

        def seen() -> list[Firing]:
            try:
                return firings(rest, made["schedule_id"], folder, by=datetime.now(UTC))
            except httpx2.HTTPError:
                return []

        def ran() -> int:
            return sum(firing.end == "completed" for firing in seen())

        kills = [Fault.WORKER, Fault.PREFECT_SERVER] * 2
        dice.shuffle(kills)
        for fault in kills:
            before = ran()
            await eventually(
                lambda before=before: ran() >= before + 3, timeout=RECOVERY_SECONDS, interval=0.5
            )
            await asyncio.sleep(dice.uniform(0, INTERVAL.total_seconds()))
            await asyncio.to_thread(kill, engine, fault)
        await eventually(
            lambda: len(seen()) >= FIRINGS and ran() >= 8, timeout=RECOVERY_SECONDS, interval=0.5
        )
        by = datetime.now(UTC)

        def ended() -> list[Firing] | None:
            found = firings(rest, made["schedule_id"], folder, by=by)
            live = {"scheduled", "queued", "pending", "launching", "running"}
            return None if any(firing.end in live for firing in found) else found

        found = await eventually(ended, timeout=RECOVERY_SECONDS, interval=0.5)
        await ok(client, "update_schedule", schedule_id=made["schedule_id"], action="delete")
    rest.close()
    for firing in found:
        print(f"{firing.at:%H:%M:%S} {firing.end:<10} began {firing.began}")
    assert_accounted_for(found, interval=INTERVAL, may_be_skipped=overlap != "allow")
