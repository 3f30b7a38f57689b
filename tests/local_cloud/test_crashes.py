"""kill -9 of anything at any instant: no job lost, none started twice, none for ever pending."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.core.errors import LaunchFailed
from flows.core.states import JobState, TerminationReason
from flows.launcher.local.job_folder import JobFolder
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync, is_gone

LAUNCHER = """
import os, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from flows.launcher.local.job import LocalJobRequest
from flows.launcher.local.store import LocalStore
store = LocalStore(Path(sys.argv[2]), slots=2, cancel_grace_seconds=5)
request = LocalJobRequest(
    name="a job", run=sys.argv[4], env=dict(os.environ), working_dir=os.getcwd(), key=sys.argv[3]
)
print("ready", flush=True)
sys.stdin.readline()
print(store.launch("local", request).job_id, flush=True)
"""


def start_launcher(jobs: Jobs, key: str, run: str) -> "subprocess.Popen[str]":
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, root, str(jobs.root), key, run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=jobs.working_dir,
    )


def let_go(launcher: "subprocess.Popen[str]") -> None:
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "ready\n"
    launcher.stdin.write("\n")
    launcher.stdin.flush()


def test_a_job_outlives_the_process_that_launched_it(jobs: Jobs) -> None:
    with start_launcher(jobs, "key", "until [ -e go ]; do sleep 0.01; done; echo done") as launcher:
        let_go(launcher)
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "key\n"
        launcher.kill()
    job = jobs.store.get(CLUSTER, "key")
    assert job is not None
    assert jobs.running(job).state is JobState.RUNNING
    (jobs.working_dir / "go").touch()
    assert jobs.ended(job).reason is TerminationReason.COMPLETED


def test_an_outcome_is_known_although_nobody_watched(jobs: Jobs) -> None:
    job = jobs.launch("exit 7")
    eventually_sync((job.job_dir / "exit.json").exists)
    seen = jobs.reopened().get(CLUSTER, job.job_id)
    assert seen is not None
    assert (seen.reason, seen.exit_code) == (TerminationReason.NONZERO_EXIT, 7)


def test_twenty_processes_that_launch_one_key_start_one_job(jobs: Jobs) -> None:
    launchers = [start_launcher(jobs, "key", "echo ran >> count; sleep 0.3") for _ in range(20)]
    for launcher in launchers:
        let_go(launcher)
    assert {launcher.communicate()[0] for launcher in launchers} == {"key\n"}
    (job,) = jobs.store.jobs(CLUSTER)
    assert jobs.ended(job).reason is TerminationReason.COMPLETED
    assert (jobs.working_dir / "count").read_text() == "ran\n"
    assert [path.name for path in job.job_dir.parent.iterdir()] == ["key"]


def test_launching_a_key_again_returns_its_job_as_it_is(jobs: Jobs) -> None:
    first = jobs.ended(jobs.launch("echo ran >> count", key="key"))
    assert jobs.reopened().launch(CLUSTER, jobs.request("echo other", key="key")) == first
    assert (jobs.working_dir / "count").read_text() == "ran\n"


@pytest.mark.parametrize("seed", range(12))
def test_a_launcher_killed_at_any_instant_leaves_a_job_that_can_be_launched(
    jobs: Jobs, seed: int
) -> None:
    launcher = start_launcher(jobs, "key", "echo ran >> count")
    let_go(launcher)
    with suppress(subprocess.TimeoutExpired):
        launcher.wait(random.Random(seed).uniform(0.0, 0.05))
    launcher.kill()
    launcher.communicate()
    job = jobs.launch("echo ran >> count", key="key")
    assert jobs.ended(job).reason is TerminationReason.COMPLETED
    assert (jobs.working_dir / "count").read_text() == "ran\n"


ROUNDS = [pytest.param(seed, marks=[] if seed < 10 else pytest.mark.nightly) for seed in range(200)]


@pytest.mark.parametrize("seed", ROUNDS)
def test_a_supervisor_killed_at_any_instant_leaves_no_false_end(jobs: Jobs, seed: int) -> None:
    run = "echo ran >> count; sleep 0.03; echo ended >> count"
    folder = JobFolder(jobs.root / CLUSTER / "jobs" / "key")
    instant = random.Random(seed).uniform(0.0, 0.1)
    with ThreadPoolExecutor(1) as thread:
        launching = thread.submit(jobs.launch, run, key="key")
        pid = eventually_sync(folder.supervisor_pid, interval=0.0005)
        threading.Event().wait(instant)
        with suppress(ProcessLookupError):
            os.kill(pid or 0, signal.SIGKILL)
        with suppress(LaunchFailed):
            launching.result()
    # Again and again, as long as the killed supervisor has not gone for good.
    eventually_sync(lambda: jobs.launch(run, key="key").state.is_terminal)
    job = jobs.launch(run, key="key")
    count = jobs.working_dir / "count"
    counted = count.read_text() if count.exists() else ""
    if job.reason is TerminationReason.COMPLETED:
        assert counted == "ran\nended\n"
    else:
        assert job.reason is TerminationReason.LOST
        assert counted in {"", "ran\n", "ran\nended\n"}
    assert jobs.reopened().get(CLUSTER, "key") == job


def submitted_only(jobs: Jobs, **fields: Any) -> JobFolder:
    """A job as a launcher leaves it that died before it started the supervisor."""
    dies = jobs.changed(start=lambda _folder: None)
    return JobFolder(dies.launch("echo ran >> count", **fields).job_dir)


def test_a_job_that_was_only_submitted_reads_as_not_launched(jobs: Jobs) -> None:
    submitted_only(jobs, key="key")
    assert jobs.store.get(CLUSTER, "key") is None
    assert jobs.store.jobs(CLUSTER) == []
    assert jobs.store.live_jobs() == []


def test_a_job_that_another_version_started_is_observed(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300"))
    path = job.job_dir / "process"
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps({**fields, "unknown": 1}))
    assert jobs.now(job).state is JobState.RUNNING
    jobs.end_all()


def test_a_job_that_was_only_submitted_is_never_run_once_cancelled(jobs: Jobs) -> None:
    submitted_only(jobs, key="key")
    assert jobs.store.cancel(CLUSTER, "key").state is JobState.CANCELLED
    assert jobs.launch("echo ran >> count", key="key").state is JobState.CANCELLED
    assert not (jobs.working_dir / "count").exists()


def test_a_waiting_job_whose_supervisor_was_killed_is_started_by_the_next_launch(
    jobs: Jobs,
) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.running(jobs.launch("sleep 300"))
    job = jobs.launch("echo ran >> count", key="key")
    jobs.kill_supervisor(job)
    assert jobs.store.get(CLUSTER, "key") is None
    assert jobs.launch("echo ran >> count", key="key").state is JobState.QUEUED
    jobs.store.cancel(CLUSTER, first.job_id)
    assert jobs.ended(job).reason is TerminationReason.COMPLETED
    assert (jobs.working_dir / "count").read_text() == "ran\n"


def test_a_waiting_job_whose_supervisor_was_killed_can_be_put_back_in_the_queue(
    jobs: Jobs,
) -> None:
    jobs = jobs.changed(slots=1)
    first = jobs.running(jobs.launch("sleep 300"))
    job = jobs.launch("echo ran >> count", key="key")
    assert not jobs.store.revive(CLUSTER, "key")
    jobs.kill_supervisor(job)
    assert jobs.store.revive(CLUSTER, "key")
    assert jobs.now(job).state is JobState.QUEUED
    jobs.store.cancel(CLUSTER, first.job_id)
    assert jobs.ended(job).reason is TerminationReason.COMPLETED
    assert not jobs.store.revive(CLUSTER, "key")
    assert not jobs.store.revive(CLUSTER, "unknown")
    assert (jobs.working_dir / "count").read_text() == "ran\n"


def test_a_waiting_job_without_a_key_is_lost_with_its_supervisor(jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1)
    jobs.running(jobs.launch("sleep 300"))
    job = jobs.launch("touch ran")
    jobs.kill_supervisor(job)
    assert jobs.now(job).reason is TerminationReason.LOST


def test_a_job_goes_on_without_its_supervisor_and_its_end_reads_as_lost(jobs: Jobs) -> None:
    job = jobs.launch("echo $$ > script; until [ -e go ]; do sleep 0.01; done", key="key")
    script = jobs.pid_in("script")
    jobs.kill_supervisor(job)
    assert jobs.now(job).state is JobState.RUNNING
    assert jobs.launch("touch twice", key="key").state is JobState.RUNNING
    (jobs.working_dir / "go").touch()
    eventually_sync(lambda: is_gone(script))
    job = jobs.ended(job)
    assert (job.state, job.reason, job.exit_code) == (
        JobState.CRASHED,
        TerminationReason.LOST,
        None,
    )
    assert job.ended_at is not None
    assert jobs.launch("touch twice", key="key") == job
    assert not (jobs.working_dir / "twice").exists()


def test_a_daemon_that_left_its_session_still_counts_without_a_supervisor(jobs: Jobs) -> None:
    job = jobs.launch("setsid bash -c 'echo $$ > daemon; exec sleep 300' & echo $$ > script; wait")
    daemon, script = jobs.pid_in("daemon"), jobs.pid_in("script")
    jobs.kill_supervisor(job)
    os.kill(script, signal.SIGKILL)
    eventually_sync(lambda: is_gone(script))
    assert jobs.now(job).state is JobState.RUNNING
    jobs.store.cancel(CLUSTER, job.job_id)
    assert jobs.ended(job).reason is TerminationReason.USER_CANCELLED
    assert is_gone(daemon)


def test_jobs_of_an_earlier_boot_are_lost_whoever_has_their_pids_now(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300"))
    copy = job.job_dir.with_name("rebooted")
    shutil.copytree(job.job_dir, copy, ignore=shutil.ignore_patterns("door"))
    process = json.loads((copy / "process").read_text())
    (copy / "process").write_text(json.dumps(process | {"boot_id": "another"}))
    spec = json.loads((copy / "spec.json").read_text())
    (copy / "spec.json").write_text(json.dumps(spec | {"job_id": "rebooted"}))
    lost = jobs.store.get(CLUSTER, "rebooted")
    assert lost is not None
    assert lost.reason is TerminationReason.LOST
    assert jobs.now(job).state is JobState.RUNNING


def test_records_lost_with_the_machines_power_harm_no_other_job(jobs: Jobs) -> None:
    cut, whole = (jobs.ended(jobs.launch("true")) for _ in range(2))
    blank = cut.job_dir / "exit.json"
    blank.write_text(" " * blank.stat().st_size)
    seen = jobs.reopened().jobs(CLUSTER)
    assert [job.reason for job in seen] == [TerminationReason.LOST, TerminationReason.COMPLETED]
    assert jobs.reopened().jobs(CLUSTER) == seen
    (cut.job_dir / "spec.json").write_text("")
    assert jobs.reopened().jobs(CLUSTER) == [whole]


def test_a_supervisor_that_fails_before_the_start_says_so(jobs: Jobs) -> None:
    folder = submitted_only(jobs, key="key")
    spec = json.loads((folder.path / "spec.json").read_text())
    (folder.path / "spec.json").write_text(json.dumps(spec | {"env": {"A": "a\0b"}}))
    job = jobs.ended(jobs.launch("true", key="key"))
    assert job.reason is TerminationReason.LAUNCH_FAILED
    assert "embedded null byte" in job.log_path.read_text()
