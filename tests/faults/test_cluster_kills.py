"""Our processes killed while jobs are launched on a cluster: as many there as were asked for."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.core import names
from flows.core.errors import ClusterNotFound
from flows.core.settings import Settings
from flows.launcher.sky.server import SkyServer
from mcp_server.engine import Engine
from tests.faults.kill_rounds import Fault, error_code, kill
from tests.lab.sky_lab import SkyLab
from tests.lab.slurm_lab import SlurmLab
from tests.support.jobs import job_config
from tests.support.reconnecting_client import ReconnectingClient, reconnecting_client
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(7200)]

VICTIMS = (Fault.MCP_SERVER, Fault.WORKER, Fault.PREFECT_SERVER)
"""The worker is also SkyPilot's API client."""
_LAUNCH_SECONDS = {"slurm": 0.8, "sky-slurm": 15.0}
_RECOVERY_SECONDS = {"slurm": 180.0, "sky-slurm": 600.0}


@dataclass(frozen=True)
class Place:
    """A cluster of a lab's, and what it knows itself.

    Attributes:
        has_begun: Whether the launch of a key has.
        jobs: The names of all jobs it ever had.
        live: The names of those that have not ended.
    """

    cloud: str
    cluster: str
    has_begun: Callable[[str], bool]
    jobs: Callable[[], list[str]]
    live: Callable[[], list[str]]


@pytest.fixture
def place(cloud: str, request: pytest.FixtureRequest) -> Place:
    """The cluster of a cloud; SkyPilot's is there once something is launched on it."""
    if cloud == "slurm":
        slurm: SlurmLab = request.getfixturevalue("slurm_lab")
        return Place(
            cloud=cloud,
            cluster=slurm.cluster,
            has_begun=lambda key: (slurm.home / "oumi_launcher" / key).exists(),
            jobs=slurm.jobs,
            live=lambda: slurm.slurm("squeue", "-h", "-o", "%j").split(),
        )
    sky: SkyLab = request.getfixturevalue("sky_lab")
    # SkyPilot keeps its runtime under this name in the node's /tmp.
    server, cluster = SkyServer(), f"kills{sky.user}"

    def queue(*, live: bool) -> list[str]:
        try:
            jobs = server.queue(cluster) or []
        except ClusterNotFound:
            jobs = []
        return [job.name for job in jobs if not (live and job.state.is_terminal)]

    return Place(
        cloud=cloud,
        cluster=cluster,
        has_begun=lambda key: key in {asked.task_name for asked in server.requests(cluster)},
        jobs=lambda: queue(live=False),
        live=lambda: queue(live=True),
    )


@pytest.fixture
def engine(place: Place, home: Path) -> Iterator[Engine]:
    """An engine of the test's own, that reaches the cluster."""
    assert place
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
    """Jobs on a cluster, two that end by themselves and one to cancel in each batch."""

    def __init__(self, client: ReconnectingClient, place: Place, folder: Path) -> None:
        self._client = client
        self._place = place
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
                config_path=str(self._config(f"job-{number}", script)),
                client_cwd=str(self._folder),
                cloud=self._place.cloud,
                cluster_name=self._place.cluster,
                idempotency_key=f"kills-{number}",
                dry_run=False,
                skip_preflight=True,
            )
            batch[submitted["job_id"]] = end
        self.ends |= batch
        return batch

    def launches_of(self, batch: dict[str, str]) -> int:
        """How many launches of a batch have begun."""
        return sum(self._place.has_begun(names.launch_key(job_id, 1)) for job_id in batch)

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

    def _config(self, name: str, script: str) -> Path:
        return job_config(self._folder, name, script, cloud=self._place.cloud)

    async def answer(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The answer of a tool, asked until the engine is there."""

        async def answered() -> dict[str, Any] | None:
            result = await self._client.call(tool, **arguments)
            return None if result.is_error else result.structured_content

        return await eventually(answered, timeout=60, interval=0.3)


ROUNDS = [
    pytest.param("slurm", 3, marks=pytest.mark.cluster),
    pytest.param("slurm", 50, marks=[pytest.mark.cluster, pytest.mark.nightly]),
    pytest.param("sky-slurm", 3, marks=pytest.mark.sky),
    pytest.param("sky-slurm", 50, marks=[pytest.mark.sky, pytest.mark.nightly]),
]


@pytest.mark.parametrize(("cloud", "rounds"), ROUNDS)
async def test_any_process_killed_during_launches_leaves_as_many_jobs_as_were_asked_for(
    cloud: str,
    rounds: int,
    place: Place,
    engine: Engine,
    home: Path,
    tmp_path: Path,
    dice: random.Random,
) -> None:
    before = Counter(await asyncio.to_thread(place.jobs))
    killed: Counter[str] = Counter()
    folder = tmp_path / "client"
    folder.mkdir()
    async with reconnecting_client({**os.environ, "OUMI_FLOWS_HOME": str(home)}) as client:
        jobs = ClusterJobs(client, place, folder)
        for number in range(rounds):
            # Each of them in turn, and sometimes others together with it.
            together = {VICTIMS[number % 3], *dice.sample(VICTIMS, dice.choice([0, 0, 1, 2]))}
            began = time.monotonic()
            batch = await jobs.submit_batch()
            await eventually(
                lambda: asyncio.to_thread(jobs.launches_of, batch),  # noqa: B023
                timeout=_RECOVERY_SECONDS[cloud],
                interval=0.01,
            )
            await asyncio.sleep(dice.uniform(0.0, _LAUNCH_SECONDS[cloud]))
            begun = await asyncio.to_thread(jobs.launches_of, batch)
            for victim in together:
                killed[victim] += await kill(victim, engine=engine, client=client)
            await jobs.cancel_those_of(batch)
            await eventually(
                lambda: jobs.have_ended(batch),  # noqa: B023
                timeout=_RECOVERY_SECONDS[cloud],
                interval=0.5,
            )
            there = f"{begun} of {len(batch)} launches begun"
            took = f"{time.monotonic() - began:.0f} s"
            print(
                f"round {number + 1}, {took}: {there}, killed: {', '.join(sorted(together))}",
                flush=True,
            )
    there = Counter(await asyncio.to_thread(place.jobs)) - before
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
    assert not await asyncio.to_thread(place.live)
