"""Slots: so many jobs at once, the others in the order they came."""

import os
import signal
from pathlib import Path

import pytest

from flows.core.states import JobState, TerminationReason
from flows.launcher.local import gpus
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync

HOLD = "until [ -e go ]; do sleep 0.01; done"


def test_jobs_wait_for_a_free_slot_in_the_order_of_submission(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    launched = [jobs.launch(f"{HOLD}; echo {name} >> order") for name in "abc"]
    launched.append(jobs.store.launch("other", jobs.request("echo d >> order")))
    jobs.running(launched[0])
    assert [job.state for job in jobs.store.live_jobs()] == [
        JobState.RUNNING,
        JobState.QUEUED,
        JobState.QUEUED,
        JobState.QUEUED,
    ]
    (jobs.working_dir / "go").touch()
    eventually_sync(lambda: not jobs.store.live_jobs(), timeout=5.0)
    assert (jobs.working_dir / "order").read_text() == "a\nb\nc\nd\n"


def test_as_many_jobs_run_at_once_as_there_are_slots(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=2)
    launched = [jobs.launch(HOLD) for _ in range(3)]
    for job in launched[:2]:
        jobs.running(job)
    assert jobs.now(launched[2]).state is JobState.QUEUED
    jobs.store.cancel(CLUSTER, launched[0].job_id)
    jobs.running(launched[2])


def test_a_waiting_job_that_is_cancelled_never_runs(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.running(jobs.launch("sleep 300"))
    waiting = [jobs.launch("touch ran"), jobs.launch("touch last")]
    cancelled = jobs.store.cancel(CLUSTER, waiting[0].job_id)
    assert (cancelled.state, cancelled.phase, cancelled.started_at) == (
        JobState.CANCELLED,
        "queued",
        None,
    )
    jobs.store.cancel(CLUSTER, first.job_id)
    assert jobs.ended(waiting[1]).reason is TerminationReason.COMPLETED
    assert not (jobs.working_dir / "ran").exists()


def test_a_killed_supervisor_neither_blocks_the_queue_nor_frees_a_slot_in_use(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.launch("echo $$ > script; exec sleep 300")
    script = jobs.pid_in("script")
    dead = jobs.launch("touch ran", key="dead")
    last = jobs.launch("echo fine")
    jobs.kill_supervisor(dead)
    jobs.kill_supervisor(first)
    assert jobs.now(last).state is JobState.QUEUED
    os.kill(script, signal.SIGKILL)
    assert jobs.ended(last).reason is TerminationReason.COMPLETED


def test_each_slot_has_its_own_gpu(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5f")
    jobs = jobs.changed(env=dict(os.environ), slots=0)
    assert jobs.store.slots == 2
    script = f"echo $CUDA_VISIBLE_DEVICES; {HOLD}"
    launched = [jobs.launch(script), jobs.launch(script)]
    chosen = jobs.launch("echo $CUDA_VISIBLE_DEVICES", sets_devices=True)
    (jobs.working_dir / "go").touch()
    seen = {jobs.ended(job).log_path.read_text() for job in launched}
    assert seen == {"4\n", "GPU-5f\n"}
    assert jobs.ended(chosen).log_path.read_text() == "4,GPU-5f\n"


@pytest.mark.parametrize(
    ("devices", "slots", "shares"),
    [
        ([], 4, []),
        (["0"], 1, []),
        (["0", "1"], 1, ["0,1"]),
        (["0", "1"], 2, ["0", "1"]),
        (["0", "1", "2"], 2, ["0,2", "1"]),
        (["0", "1"], 3, ["0", "1", "0"]),
    ],
)
def test_gpus_are_shared_out_evenly(devices: list[str], slots: int, shares: list[str]) -> None:
    assert gpus.shares(devices, slots) == shares


@pytest.mark.parametrize(("value", "found"), [("", []), ("-1", []), ("0, 2", ["0", "2"])])
def test_the_gpus_chosen_for_this_process_are_the_ones_there_are(
    monkeypatch: pytest.MonkeyPatch, value: str, found: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus.visible_gpus() == found


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ('echo "GPU 0: A (UUID: GPU-1)"; echo "  MIG 1g.5gb"; echo "GPU 1: A"', ["0", "1"]),
        ("echo 'GPU 0: A'; exit 9", []),
    ],
)
def test_the_driver_is_asked_for_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus.visible_gpus() == found


def test_a_machine_without_gpus_has_one_slot(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert jobs.changed(slots=0).store.slots == 1
