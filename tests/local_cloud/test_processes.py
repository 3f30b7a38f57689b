"""A training in several processes, for real: two on CPUs that Oumi takes for two GPUs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.configs.plan import make_plan
from flows.core.configs.reader import read_config
from flows.core.models import JobProgress, JobRequest
from flows.core.settings import Settings
from flows.core.states import JobState, TerminationReason
from flows.core.training.record import TrainingRecord, read_segments
from flows.core.training.recorder import record_folder
from flows.job.progress import ProgressReader
from flows.launcher.job_environment import with_job_environment
from flows.launcher.local.job import LocalJob
from tests.local_cloud.jobs import Jobs
from tests.support.waiting import eventually_sync, is_gone

EXAMPLE = Path(__file__).parents[2] / "examples" / "tiny"
MINUTES = 240.0
ON_CPUS = """\
import torch

begin = torch.distributed.init_process_group


def begin_on_cpus(**options):
    begin(**{**options, "backend": "gloo", "device_id": None})


torch.distributed.init_process_group = begin_on_cpus
torch.cuda.set_device = lambda device: None
"""
"""Oumi 0.9 starts processes for CUDA and NCCL alone."""

FAKE_NODE = {
    "SKYPILOT_NODE_RANK": "0",
    "SKYPILOT_NODE_IPS": "127.0.0.1",
    "SKYPILOT_NUM_GPUS_PER_NODE": "2",
}
"""Makes `oumi distributed` count two GPUs."""


@pytest.fixture
def two_gpus(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs of a worker that is shown two GPUs, in the folder of the tiny example."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    folder = jobs.working_dir
    shutil.copytree(
        EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("data", "runs")
    )
    subprocess.run([sys.executable, "make_tiny.py", "data"], cwd=folder, check=True)
    (folder / "on_cpus.py").write_text(ON_CPUS)
    (folder / "own_modules.txt").write_text(str(folder / "on_cpus.py"))
    return Jobs(jobs.root, folder, dict(os.environ), slots=0)


def train(jobs: Jobs, **overrides: Any) -> LocalJob:
    """Launch the tiny training on two GPUs, as the worker does."""
    folder = jobs.working_dir
    config = read_config(folder / "train.yaml")
    request = JobRequest(
        config_path=str(config.path),
        client_cwd=str(folder),
        gpus=2,
        overrides={f"training.{key}": value for key, value in overrides.items()},
        envs={
            **FAKE_NODE,
            **{"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            "OUMI_EXTRA_DEPS_FILE": str(folder / "own_modules.txt"),
        },
    )
    plan = make_plan(request, config)
    assert (plan.processes, plan.effective_batch_size) == (2, 32)
    settings = Settings(home=folder / "home")
    job = yaml.safe_load(with_job_environment(plan.job_config, key="train", settings=settings))
    envs = {**jobs.env, **job["envs"]}
    envs["PATH"] = f"{Path(sys.executable).parent}:{envs['PATH']}"
    del envs["CUDA_VISIBLE_DEVICES"]
    return jobs.launch(job["run"], env=envs, gpus=2)


def progress_of(job: LocalJob) -> JobProgress | None:
    return ProgressReader(job.log_path).read()


def pids_of_job(job: LocalJob) -> dict[int, str]:
    """The processes that have the job's folder in their environment, with their commands."""
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"OUMI_FLOWS_JOB_DIR={job.job_dir}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(2 * MINUTES)
def test_two_processes_train_and_one_of_them_records(two_gpus: Jobs) -> None:
    job = two_gpus.ended(train(two_gpus, max_steps=10), timeout=MINUTES)
    log = job.log_path.read_text()
    assert (job.reason, job.exit_code) == (TerminationReason.COMPLETED, 0), log[-3000:]
    folder = record_folder(job.log_path)
    events = list(TrainingRecord([folder]).events())
    (begin,) = [event for event in events if event["kind"] == "begin"]
    assert begin["config"]["effective_batch_size"] == 32
    assert [event["kind"] for event in events].count("start") == 1
    steps = [int(step) for step in TrainingRecord([folder]).read("loss").steps]
    assert steps == sorted(set(steps)), "two processes recorded"
    assert len([one for one in read_segments(folder) if not one.is_of_usage]) == 1
    progress = progress_of(job)
    assert progress is not None
    assert (progress.step, progress.max_steps) == (10, 10)
    state = json.loads(
        (two_gpus.working_dir / "runs/train/checkpoint-10/trainer_state.json").read_text()
    )
    # Twice the rows of one process in each step.
    assert state["epoch"] == pytest.approx(10 * 32 / rows(two_gpus.working_dir), rel=0.2)


def rows(folder: Path) -> int:
    return len((folder / "data/train.jsonl").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(2 * MINUTES)
def test_a_cancel_ends_every_process_of_the_training(two_gpus: Jobs) -> None:
    job = train(two_gpus, max_steps=100_000, eval_strategy="no", save_steps=0)
    eventually_sync(lambda: getattr(progress_of(job), "step", None), timeout=MINUTES)
    pids = pids_of_job(job)
    assert (
        sum("-m\0oumi\0train" in command or "oumi\0train" in command for command in pids.values())
        >= 3
    )
    two_gpus.store.cancel("local", job.job_id, grace_seconds=5.0)
    ended = two_gpus.ended(job, timeout=30)
    assert (ended.state, ended.reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert all(map(is_gone, pids))
    assert pids_of_job(job) == {}


def test_a_process_that_is_killed_reads_as_a_kill_of_the_job(jobs: Jobs) -> None:
    report = (
        "Root Cause (first observed failure):\\n[0]:\\n  time : now\\n  rank : 1 (local_rank: 1)\\n"
        "  exitcode  : -9 (pid: 4)\\n  traceback : Signal 9 (SIGKILL) received by PID 4\\n"
    )
    job = jobs.ended(jobs.launch(f"printf '{report}'; exit 1"))
    assert (job.reason, job.exit_code) == (TerminationReason.KILLED, 1)
    job = jobs.ended(jobs.launch(f"printf '{report.replace('-9', '1 ')}'; exit 1"))
    assert job.reason is TerminationReason.NONZERO_EXIT
