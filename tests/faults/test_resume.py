"""A training killed in the middle goes on from its checkpoint and ends as if nothing had been."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from flows.launcher.local.job_folder import JobFolder
from tests.support.job_driver import JobDriver, job_processes
from tests.support.stack import REPOSITORY
from tests.support.waiting import eventually

pytestmark = [pytest.mark.engine, pytest.mark.nightly]

STEPS = 200
SAVE_STEPS = 20
STATE = "trainer_state.json"
TRAINING_SECONDS = 180.0


@pytest.fixture
async def config(jobs: JobDriver) -> Path:
    """The tiny training, with its model and data beside it."""
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, jobs.folder)
    make = [sys.executable, "make_tiny.py", "data"]
    await asyncio.to_thread(subprocess.run, make, cwd=jobs.folder, check=True, capture_output=True)
    return jobs.folder / "train.yaml"


async def submit(jobs: JobDriver, config: Path, output: Path, **arguments: object) -> str:
    overrides = {
        "training.output_dir": str(output),
        "training.max_steps": STEPS,
        "training.save_steps": SAVE_STEPS,
        "training.eval_strategy": "no",
    }
    return await jobs.submit_config(config, overrides=overrides, skip_preflight=True, **arguments)


@pytest.mark.timeout(600)
async def test_a_training_that_was_cut_off_ends_with_the_weights_of_an_undisturbed_one(
    jobs: JobDriver, config: Path, dice: random.Random
) -> None:
    whole = jobs.folder / "whole"
    undisturbed = await submit(jobs, config, whole)

    async def lost_with_its_supervisor() -> Path:
        await jobs.reaching(undisturbed, "succeeded", timeout=TRAINING_SECONDS)
        return await lost(jobs, config, whole, dice)

    ends = await asyncio.gather(started_over(jobs, config, dice), lost_with_its_supervisor())
    expected = load_file(whole / "model.safetensors")
    for folder in ends:
        weights = load_file(folder / "model.safetensors")
        assert expected.keys() == weights.keys()
        different = [name for name, value in expected.items() if (value != weights[name]).any()]
        assert not different, folder


async def lost(jobs: JobDriver, config: Path, whole: Path, dice: random.Random) -> Path:
    """A training whose next attempt comes by itself, in a folder with checkpoints of others."""
    cut = jobs.folder / "cut"
    stale = shutil.copytree(whole / f"checkpoint-{STEPS}", cut / f"checkpoint-{STEPS}")
    yesterday = time.time() - 86_400
    os.utime(stale / STATE, (yesterday, yesterday))
    killed = await submit(jobs, config, cut, max_retries=1)
    await saved(cut, dice.randrange(SAVE_STEPS, STEPS // 2, SAVE_STEPS))
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    log_path = Path((await jobs.status(killed))["log_path"])
    supervisor = JobFolder(log_path.parent).supervisor_pid()
    assert supervisor
    for pid in (supervisor, *(process.pid for process in job_processes(killed))):
        os.kill(pid, signal.SIGKILL)
    step = highest_step(cut, since=yesterday + 1)
    # As if it had been killed while it wrote the next one.
    partial = cut / f"checkpoint-{STEPS - 1}"
    shutil.copytree(stale, partial, ignore=shutil.ignore_patterns(STATE))

    waiting = await jobs.reaching(killed, "retrying")
    assert "lost" in waiting["summary"]
    resumed = await jobs.reaching(killed, "succeeded", timeout=TRAINING_SECONDS)
    assert (resumed["attempt"], resumed["resumed_from_step"]) == (2, step)
    assert resumed["progress"]["step"] == STEPS
    print(f"lost after the checkpoint of step {step} of {STEPS}")
    return cut


async def started_over(jobs: JobDriver, config: Path, dice: random.Random) -> Path:
    """A training killed twice: the first retry starts over, the next goes on from that one."""
    cut = jobs.folder / "over"
    killed = await submit(jobs, config, cut)
    late = dice.randrange(3 * SAVE_STEPS, STEPS // 2, SAVE_STEPS)
    await saved(cut, late)
    await kill_trainer(jobs, killed)
    began = time.time()
    await jobs.call("retry_job", job_id=killed, resume=False)
    await saved(cut, SAVE_STEPS, since=began)
    fresh = await jobs.status(killed)
    assert (fresh["attempt"], fresh["resumed_from_step"]) == (2, None)
    await kill_trainer(jobs, killed)
    step = highest_step(cut, since=began)

    await jobs.call("retry_job", job_id=killed)
    resumed = await jobs.reaching(killed, "succeeded", timeout=TRAINING_SECONDS)
    assert (resumed["attempt"], resumed["resumed_from_step"]) == (3, step)
    assert resumed["progress"]["step"] == STEPS
    print(f"killed after step {late}, and after step {step} of the attempt that started over")
    return cut


async def kill_trainer(jobs: JobDriver, job_id: str) -> None:
    for process in job_processes(job_id):
        if "train" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    failed = await jobs.reaching(job_id, "failed")
    assert failed["termination_reason"] == "out_of_memory"


async def saved(folder: Path, step: int, *, since: float = 0.0) -> None:
    """Wait until a checkpoint has been written."""
    state = folder / f"checkpoint-{step}" / STATE
    await eventually(
        lambda: state.exists() and state.stat().st_mtime > since,
        timeout=TRAINING_SECONDS,
        interval=0.01,
    )


def highest_step(folder: Path, *, since: float) -> int:
    """The last step whose checkpoint was written since, by its last file."""
    written = [
        path for path in folder.glob(f"checkpoint-*/{STATE}") if path.stat().st_mtime > since
    ]
    return max(int(path.parent.name.removeprefix("checkpoint-")) for path in written)
