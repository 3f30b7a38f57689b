"""A training killed in the middle goes on from its checkpoint and ends as if nothing had been."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from flows.configs.checkpoints import last_whole_checkpoint
from tests.support.job_driver import JobDriver, job_processes
from tests.support.stack import REPOSITORY
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

STEPS = 200
SAVE_STEPS = 20
TRAINING_SECONDS = 180.0


@pytest.fixture
async def config(jobs: JobDriver) -> Path:
    """The tiny training, with its model and data beside it."""
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, jobs.folder)
    make = [sys.executable, "make_tiny.py", "data"]
    await asyncio.to_thread(subprocess.run, make, cwd=jobs.folder, check=True, capture_output=True)
    return jobs.folder / "train.yaml"


async def submit(jobs: JobDriver, config: Path, output: Path) -> str:
    overrides = {
        "training.output_dir": str(output),
        "training.max_steps": STEPS,
        "training.save_steps": SAVE_STEPS,
        "training.eval_strategy": "no",
    }
    return await jobs.submit_config(config, overrides=overrides, skip_preflight=True)


@pytest.mark.timeout(600)
async def test_a_killed_training_resumes_and_ends_with_the_weights_of_an_undisturbed_one(
    jobs: JobDriver, config: Path, dice: random.Random
) -> None:
    whole, cut = jobs.folder / "whole", jobs.folder / "cut"
    undisturbed = await submit(jobs, config, whole)
    await jobs.reaching(undisturbed, "succeeded", timeout=TRAINING_SECONDS)

    killed = await submit(jobs, config, cut)
    saved = dice.randrange(SAVE_STEPS, STEPS // 2, SAVE_STEPS)
    await eventually((cut / f"checkpoint-{saved}").exists, timeout=TRAINING_SECONDS, interval=0.01)
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    for process in job_processes(killed):
        if "train" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    failed = await jobs.reaching(killed, "failed")
    assert failed["termination_reason"] == "out_of_memory"
    checkpoint = last_whole_checkpoint(cut)
    assert checkpoint is not None
    assert checkpoint.step < STEPS

    await jobs.call("retry_job", job_id=killed)
    resumed = await jobs.reaching(killed, "succeeded", timeout=TRAINING_SECONDS)

    assert (resumed["attempt"], resumed["resumed_from_step"]) == (2, checkpoint.step)
    assert resumed["progress"]["step"] == STEPS
    print(f"killed after the checkpoint of step {checkpoint.step} of {STEPS}")
    expected, weights = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert expected.keys() == weights.keys()
    different = [name for name, value in expected.items() if (value != weights[name]).any()]
    assert not different
