"""Real trainings that share a folder, or write to the home folder: each resumes from its own."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.core.configs.marks import MARK
from tests.support.job_driver import JobDriver, job_processes
from tests.support.stack import REPOSITORY
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TRAINING_SECONDS = 240.0


@pytest.fixture
async def config(jobs: JobDriver) -> Path:
    """The tiny training, with its model and data beside it."""
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, jobs.folder)
    make = [sys.executable, "make_tiny.py", "data"]
    await asyncio.to_thread(subprocess.run, make, cwd=jobs.folder, check=True, capture_output=True)
    return jobs.folder / "train.yaml"


async def submit(jobs: JobDriver, config: Path, output: str, **overrides: object) -> str:
    """Start a training that goes on for long; without the checks that would refuse it."""
    values = {
        "training.output_dir": output,
        "training.max_steps": 100_000,
        "training.save_steps": 20,
        "training.eval_strategy": "no",
        **overrides,
    }
    return await jobs.submit_config(config, overrides=values, skip_preflight=True)


async def kill_trainer(jobs: JobDriver, job_id: str) -> None:
    for process in job_processes(job_id):
        if "train" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    await jobs.reaching(job_id, "failed")


def steps_of(folder: Path, job_id: str) -> set[int]:
    """The steps of the checkpoints in a folder that a job wrote."""
    found: set[int] = set()
    for mark in folder.glob(f"checkpoint-*/{MARK}"):
        content = json.loads(mark.read_bytes())
        if job_id.replace("-", "") in content["job"]:
            found.add(content["step"])
    return found


@pytest.mark.timeout(600)
async def test_of_two_live_trainings_in_one_folder_a_retry_goes_on_from_its_own_checkpoint(
    jobs: JobDriver, config: Path
) -> None:
    folder = jobs.folder / "shared"
    mine = await submit(jobs, config, str(folder), **{"training.max_steps": 3000})
    await eventually(lambda: steps_of(folder, mine), timeout=TRAINING_SECONDS, interval=0.05)
    await kill_trainer(jobs, mine)
    last = max(steps_of(folder, mine))
    # Its checkpoints lie between those of mine, as those of a training further on would.
    other = await submit(jobs, config, str(folder), **{"training.save_steps": last + 7})
    await eventually(lambda: steps_of(folder, other), timeout=TRAINING_SECONDS, interval=0.05)
    assert max(steps_of(folder, other)) > last

    await jobs.call("retry_job", job_id=mine)
    resumed = await jobs.reaching(mine, "running", timeout=TRAINING_SECONDS)
    assert (resumed["attempt"], resumed["resumed_from_step"]) == (2, last)
    for job_id in (mine, other):
        await jobs.call("cancel_job", job_id=job_id, force=True)
        await jobs.ended(job_id)


@pytest.mark.timeout(600)
async def test_a_training_into_the_home_folder_is_resumed_from_there(
    jobs: JobDriver, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # of the submitter; the worker has another
    folder = tmp_path / "runs"
    job_id = await submit(jobs, config, "~/runs", **{"training.max_steps": 400})
    await eventually(lambda: steps_of(folder, job_id), timeout=TRAINING_SECONDS, interval=0.02)
    await kill_trainer(jobs, job_id)
    assert (await jobs.status(job_id))["output_dir"] == str(folder)
    assert (folder / "telemetry").is_dir() or (folder / "logs").is_dir()
    last = max(steps_of(folder, job_id))
    await jobs.call("retry_job", job_id=job_id)
    ended = await jobs.reaching(job_id, "succeeded", timeout=TRAINING_SECONDS)
    assert (ended["attempt"], ended["resumed_from_step"]) == (2, last)
    assert (folder / "metrics_rank0000.jsonl").exists()
    assert not (jobs.folder / "~").exists()
