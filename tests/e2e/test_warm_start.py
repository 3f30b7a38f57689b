"""Trainings that start from the warm host equal those that start cold."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from safetensors.numpy import load_file

from flows.core.settings import Settings
from mcp_server.engine import Engine
from tests.support.mcp_client import Session, mcp_session
from tests.support.prepared import PreparedEngine
from tests.support.stack import REPOSITORY, Stack
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MANY = 200
SLOTS = 4

SHORT = {"training.max_steps": 10, "training.save_steps": 5, "training.eval_steps": 1000}
OUMI = {
    "train": "oumi train -c train.yaml --training.max_steps 5 --training.eval_steps 1000 "
    "--training.output_dir script",
    "a script that trains twice": "set -o pipefail\n"
    "for rate in 0.001 0.002; do oumi train -c train.yaml --training.max_steps 2 "
    "--training.eval_steps 1000 --training.learning_rate $rate "
    "--training.output_dir many/$rate | tee log-$rate; done",
}


@pytest.fixture
def warm_stack(
    tmp_path: Path, prepared: PreparedEngine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """An engine whose worker keeps a warm host."""
    monkeypatch.setenv("OUMI_FLOWS_WARM_START", "on")
    monkeypatch.setenv("OUMI_FLOWS_WARM_FREE_MEMORY", "0.05")
    monkeypatch.setenv("OUMI_FLOWS_LOCAL_SLOTS", str(SLOTS))
    home = tmp_path / "home"
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(home))
    prepared.copy_to(home)
    env = dict(os.environ)
    engine = Engine(Settings(home=home, local_slots=SLOTS, engine_timeout_seconds=180), environ=env)
    try:
        connection = engine.ensure()
        engine.up(wait_for_worker=True)
        yield Stack(env=env, connection=connection, engine=engine)
    finally:
        engine.down()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, tmp_path)
    subprocess.run([sys.executable, "make_tiny.py", "data"], cwd=tmp_path, check=True)
    return tmp_path / "train.yaml"


async def ended(session: Session, job_id: str) -> dict[str, Any]:
    """The job's status after its end."""
    while not (status := await session.wait(job_id))["is_done"]:
        pass
    return status


async def train(session: Session, config: Path, output: str, **arguments: Any) -> dict[str, Any]:
    overrides = {**SHORT, "training.output_dir": str(config.parent / output)}
    job_id = await session.submit(config, overrides=overrides, **arguments)
    return await ended(session, job_id)


@pytest.mark.timeout(600)
async def test_a_warm_training_equals_a_cold_one(
    warm_stack: Stack, config: Path, tmp_path: Path
) -> None:
    async with mcp_session(warm_stack) as session:

        async def warm() -> bool:
            status = await train(session, config, "warm")
            assert status["state"] == "succeeded", status
            return status["usage"]["start"] == "warm"

        await eventually(warm, timeout=240)
        # What a library reads at its import: the host cannot serve it.
        job = tmp_path / "cold.yaml"
        options = " ".join(f"--{name} {value}" for name, value in SHORT.items())
        job.write_text(
            "name: cold\nenvs:\n  TOKENIZERS_PARALLELISM: 'false'\nrun: |\n"
            f"  oumi train -c train.yaml {options} --training.output_dir {tmp_path}/cold\n"
        )
        cold = await ended(session, await session.submit(job))
        assert (cold["state"], cold["usage"]["start"]) == ("succeeded", "cold"), cold
    for folder in ("", "checkpoint-5"):
        one, other = (
            load_file(tmp_path / n / folder / "model.safetensors") for n in ("warm", "cold")
        )
        assert one.keys() == other.keys()
        assert not [name for name, value in one.items() if (value != other[name]).any()]


@pytest.mark.timeout(600)
async def test_commands_in_scripts_start_warm_too(
    warm_stack: Stack, config: Path, tmp_path: Path
) -> None:
    async with mcp_session(warm_stack) as session:

        async def warm() -> bool:
            status = await train(session, config, "first")
            return status["usage"]["start"] == "warm"

        await eventually(warm, timeout=240)
        for name, script in OUMI.items():
            job = tmp_path / "job.yaml"
            indented = script.replace("\n", "\n  ")
            job.write_text(f"name: scripts\nrun: |\n  {indented}\n")
            status = await ended(session, await session.submit(job))
            assert (status["state"], status["usage"]["start"]) == ("succeeded", "warm"), name
        assert (tmp_path / "many" / "0.002" / "model.safetensors").exists()
        # A mistake of the user reads as in a cold start.
        missing = {"model.model_name": "no/model"}
        job_id = await session.submit(config, overrides=missing, skip_preflight=True)
        assert (await ended(session, job_id))["state"] == "failed"
        log = await session.call("get_job_logs", job_id=job_id, lines=1000)
        assert "no/model" in log["logs"]
        assert "launcher/local/warm" not in log["logs"]


class Host(NamedTuple):
    """What the warm host and the worker hold, and the ended processes that are not collected."""

    rss_mib: float
    files: int
    worker_files: int
    zombies: int


def look_at_host(engine: Engine) -> Host:
    worker = psutil.Process(engine.status().worker.pid)
    host = next(
        child
        for child in worker.children()
        if "flows.launcher.local.warm.host" in " ".join(child.cmdline())
    )
    children = [*worker.children(recursive=True), *host.children()]
    return Host(
        rss_mib=host.memory_info().rss / 2**20,
        files=host.num_fds(),
        worker_files=worker.num_fds(),
        zombies=sum(child.status() == psutil.STATUS_ZOMBIE for child in children),
    )


@pytest.mark.nightly
@pytest.mark.timeout(3600)
async def test_many_warm_jobs_leave_nothing_behind(warm_stack: Stack, config: Path) -> None:
    seen: dict[int, Host] = {}
    async with mcp_session(warm_stack) as session:
        one_step = {**SHORT, "training.max_steps": 1}

        async def run(number: int) -> dict[str, Any]:
            overrides = {**one_step, "training.output_dir": str(config.parent / f"many-{number}")}
            return await ended(session, await session.submit(config, overrides=overrides))

        async def is_warm() -> bool:
            return (await run(0))["usage"]["start"] == "warm"

        await eventually(is_warm, timeout=240)
        for first in range(1, MANY + 1, SLOTS):
            jobs = await asyncio.gather(*map(run, range(first, first + SLOTS)))
            assert {(job["state"], job["usage"]["start"]) for job in jobs} == {
                ("succeeded", "warm")
            }
            seen[first + SLOTS - 1] = look_at_host(warm_stack.engine)
    print(*(f"\n{count} jobs: {host}" for count, host in seen.items() if count % 40 == 0))
    early, late = seen[40], seen[MANY]
    assert late.rss_mib < early.rss_mib + 5
    assert late.files == early.files
    # Connections to the Prefect server come and go.
    assert late.worker_files < early.worker_files + 20
    assert late.zombies == 0
