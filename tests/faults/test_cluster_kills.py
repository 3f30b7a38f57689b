"""A worker killed while it launches jobs on a cluster: as many jobs there as were asked for."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import names
from flows.settings import Settings
from mcp_server.engine import Engine
from tests.lab.slurm_lab import SlurmLab
from tests.support.reconnecting_client import ReconnectingClient, reconnecting_client
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.cluster]

ROUNDS_ENV = "CLUSTER_KILL_ROUNDS"
_JOBS_A_ROUND = 3
_LAUNCH_SECONDS = 0.8
_WORKER_SECONDS = 180.0


@pytest.fixture
def engine(slurm_lab: SlurmLab, tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own, that reaches the cluster."""
    home = tmp_path / "home"
    engine = Engine(
        Settings(home=home, engine_timeout_seconds=120),
        environ={**os.environ, "OUMI_FLOWS_HOME": str(home)},
    )
    try:
        engine.ensure()
        yield engine
    finally:
        engine.down()


async def answer(client: ReconnectingClient, tool: str, **arguments: object) -> dict[str, Any]:
    async def answered() -> dict[str, Any] | None:
        result = await client.call(tool, **arguments)
        return None if result.is_error else result.structured_content

    return await eventually(answered, timeout=60, interval=0.3)


async def states(client: ReconnectingClient, job_ids: list[str]) -> list[str]:
    return [(await answer(client, "get_job_status", job_id=one))["state"] for one in job_ids]


@pytest.mark.timeout(3600)
async def test_a_worker_killed_while_it_launches_leaves_as_many_jobs_as_were_asked_for(
    engine: Engine, slurm_lab: SlurmLab, tmp_path: Path
) -> None:
    rounds = int(os.environ.get(ROUNDS_ENV, "3"))
    env = {**os.environ, "OUMI_FLOWS_HOME": str(tmp_path / "home")}
    folder = tmp_path / "client"
    folder.mkdir()
    config = folder / "job.yaml"
    config.write_text("name: kills\nresources: {cloud: slurm}\nrun: sleep 1\n")
    there = slurm_lab.home / "oumi_launcher"
    asked: list[str] = []
    async with reconnecting_client(env) as client:
        for number in range(rounds):
            batch: list[str] = []
            for _ in range(_JOBS_A_ROUND):
                submitted = await answer(
                    client,
                    "run_oumi_job",
                    config_path=str(config),
                    client_cwd=str(folder),
                    cloud="slurm",
                    cluster_name=slurm_lab.cluster,
                    idempotency_key=f"kills-{len(asked) + len(batch)}",
                    dry_run=False,
                    skip_preflight=True,
                )
                batch.append(submitted["job_id"])
            asked += batch

            def begun(batch: list[str] = batch) -> bool:
                folders = [names.launch_key(job_id, 1) for job_id in batch]
                return any((there / folder).exists() for folder in folders)

            await eventually(begun, timeout=_WORKER_SECONDS, interval=0.01)
            await asyncio.sleep(random.uniform(0.0, _LAUNCH_SECONDS))
            worker = (await asyncio.to_thread(engine.status)).worker
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            of_batch = {names.launch_key(job_id, 1) for job_id in batch}
            launched = len(of_batch & set(slurm_lab.jobs()))
            print(f"round {number + 1}: killed with {launched} of {len(batch)} there", flush=True)

        async def all_done() -> bool:
            return all(state == "succeeded" for state in await states(client, asked))

        await eventually(all_done, timeout=_WORKER_SECONDS, interval=1)
    expected = sorted(names.launch_key(job_id, 1) for job_id in asked)
    await eventually(lambda: sorted(slurm_lab.jobs()) == expected)
    print(f"{rounds} kills, {len(asked)} jobs asked for, {len(slurm_lab.jobs())} on the cluster")
