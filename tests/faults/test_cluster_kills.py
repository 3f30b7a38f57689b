"""Our processes killed while jobs are launched on a cluster: as many there as were asked for."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import names
from flows.settings import Settings
from mcp_server.engine import Engine
from tests.faults.kill_rounds import Fault, error_code, kill
from tests.lab.slurm_lab import SlurmLab
from tests.support.jobs import job_config
from tests.support.reconnecting_client import ReconnectingClient, reconnecting_client
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.cluster]

VICTIMS = (Fault.MCP_SERVER, Fault.WORKER, Fault.PREFECT_SERVER)
_LAUNCH_SECONDS = 0.8
_RECOVERY_SECONDS = 180.0


@pytest.fixture
def engine(slurm_lab: SlurmLab, home: Path) -> Iterator[Engine]:
    """An engine of the test's own, that reaches the cluster."""
    engine = Engine(
        Settings(home=home, engine_timeout_seconds=120),
        environ={**os.environ, "OUMI_FLOWS_HOME": str(home)},
    )
    try:
        engine.ensure()
        yield engine
    finally:
        engine.down()


class ClusterJobs:
    """Jobs on the lab's cluster, two that end by themselves and one to cancel in each batch."""

    def __init__(self, client: ReconnectingClient, lab: SlurmLab, folder: Path) -> None:
        self._client = client
        self._lab = lab
        self._folder = folder
        self.ends: dict[str, str] = {}
        """How each job that was asked for must end."""

    async def submit_batch(self) -> dict[str, str]:
        """Submit three jobs; how each must end."""
        scripts = {"sleep 1": "succeeded", "sleep 2": "succeeded", "sleep 600": "cancelled"}
        batch: dict[str, str] = {}
        for script, end in scripts.items():
            number = len(self.ends) + len(batch)
            submitted = await self.answer(
                "run_oumi_job",
                config_path=str(job_config(self._folder, f"job-{number}", script, cloud="slurm")),
                client_cwd=str(self._folder),
                cloud="slurm",
                cluster_name=self._lab.cluster,
                idempotency_key=f"kills-{number}",
                dry_run=False,
                skip_preflight=True,
            )
            batch[submitted["job_id"]] = end
        self.ends |= batch
        return batch

    def launches_of(self, batch: dict[str, str]) -> int:
        """How many launches of a batch have begun."""
        there = self._lab.home / "oumi_launcher"
        return sum((there / names.launch_key(job_id, 1)).exists() for job_id in batch)

    async def cancel_those_of(self, batch: dict[str, str]) -> None:
        """Cancel what does not end by itself."""
        for job_id, end in batch.items():
            while end == "cancelled":
                result = await self._client.call("cancel_job", job_id=job_id)
                # After a lost answer the job may be done with its cancel.
                if not result.is_error or error_code(result) == "JOB_ALREADY_DONE":
                    break

    async def have_ended(self, batch: dict[str, str]) -> bool:
        """Whether all of a batch have, each as it must."""
        states: dict[str, str] = {}
        for job_id, end in batch.items():
            status = await self.answer("get_job_status", job_id=job_id)
            assert not status["is_done"] or status["state"] == end, status
            states[job_id] = status["state"]
        return states == batch

    async def answer(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The answer of a tool, asked until the engine is there."""

        async def answered() -> dict[str, Any] | None:
            result = await self._client.call(tool, **arguments)
            return None if result.is_error else result.structured_content

        return await eventually(answered, timeout=60, interval=0.3)


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=pytest.mark.nightly)])
@pytest.mark.timeout(7200)
async def test_any_process_killed_during_launches_leaves_as_many_jobs_as_were_asked_for(
    rounds: int,
    engine: Engine,
    home: Path,
    slurm_lab: SlurmLab,
    tmp_path: Path,
    dice: random.Random,
) -> None:
    before = Counter(slurm_lab.jobs())
    killed: Counter[str] = Counter()
    folder = tmp_path / "client"
    folder.mkdir()
    async with reconnecting_client({**os.environ, "OUMI_FLOWS_HOME": str(home)}) as client:
        jobs = ClusterJobs(client, slurm_lab, folder)
        for number in range(rounds):
            # Each of them in turn, and sometimes others together with it.
            together = {VICTIMS[number % 3], *dice.sample(VICTIMS, dice.choice([0, 0, 1, 2]))}
            batch = await jobs.submit_batch()
            await eventually(
                lambda: jobs.launches_of(batch),  # noqa: B023
                timeout=_RECOVERY_SECONDS,
                interval=0.01,
            )
            await asyncio.sleep(dice.uniform(0.0, _LAUNCH_SECONDS))
            begun = jobs.launches_of(batch)
            for victim in together:
                killed[victim] += await kill(victim, engine=engine, client=client)
            await jobs.cancel_those_of(batch)
            await eventually(
                lambda: jobs.have_ended(batch),  # noqa: B023
                timeout=_RECOVERY_SECONDS,
                interval=0.5,
            )
            there = f"{begun} of {len(batch)} launches begun"
            print(f"round {number + 1}: {there}, killed: {', '.join(sorted(together))}", flush=True)
    there = Counter(slurm_lab.jobs()) - before
    asked = {names.launch_key(job_id, 1): end for job_id, end in jobs.ends.items()}
    print(
        f"{rounds} rounds, killed {dict(killed)}, {len(asked)} jobs asked for,",
        f"{there.total()} on the cluster, answers lost: {client.lost_answers}",
    )
    assert all(killed[victim] for victim in VICTIMS)
    assert set(there) <= set(asked)
    assert set(there.values()) == {1}
    # What was cancelled before its launch is not there at all.
    assert {key for key, end in asked.items() if end == "succeeded"} <= set(there)
    assert not slurm_lab.slurm("squeue", "-h").strip()
