"""Cancelling: confirmed once nothing of the job is left, and for good."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.core.states import JobState, TerminationReason
from flows.launcher.local.job_folder import JobFolder
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync, is_gone

STUBBORN = """
trap 'echo asked' TERM
setsid bash -c 'trap "" TERM; (trap "" TERM; setsid sleep 300 & echo $! > grandchild); \
echo $$ > child; while :; do sleep 300; done' &
while :; do sleep 0.05 || :; done
"""


def test_a_cooperative_job_is_cancelled_at_once(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300 & echo $! > child; wait"))
    child = jobs.pid_in("child")
    job = jobs.store.cancel(CLUSTER, job.job_id)
    assert (job.state, job.reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert is_gone(child)


def test_a_job_has_the_grace_to_save_what_it_has(jobs: Jobs) -> None:
    job = jobs.launch(
        "trap 'echo saved; exit 0' TERM; touch ready; while :; do sleep 0.02 || :; done"
    )
    eventually_sync((jobs.working_dir / "ready").exists)
    jobs.store.cancel(CLUSTER, job.job_id)
    job = jobs.ended(job)
    assert job.reason is TerminationReason.USER_CANCELLED
    assert "saved" in job.log_path.read_text()


def test_daemons_that_ignore_the_request_are_killed_after_the_grace(
    tmp_path: Path, jobs: Jobs
) -> None:
    jobs = jobs.changed(working_dir=tmp_path, grace_seconds=1.0)
    job = jobs.launch(STUBBORN)
    pids = [jobs.pid_in("child"), jobs.pid_in("grandchild")]
    started = time.monotonic()
    asked = jobs.store.cancel(CLUSTER, job.job_id)
    assert asked.state is JobState.CANCELLING
    assert time.monotonic() - started < 1.0
    job = jobs.ended(job)
    assert 1.0 <= time.monotonic() - started < 3.0
    assert job.reason is TerminationReason.USER_CANCELLED
    assert all(map(is_gone, pids))
    assert "asked" in job.log_path.read_text()


def test_a_later_request_shortens_the_grace_and_none_lengthens_it(jobs: Jobs) -> None:
    job = jobs.launch(STUBBORN)
    pids = [jobs.pid_in("child"), jobs.pid_in("grandchild")]
    assert jobs.store.cancel(CLUSTER, job.job_id).state is JobState.CANCELLING
    jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.0, wait_seconds=0.0)
    jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=100.0)
    assert jobs.ended(job, timeout=3.0).state is JobState.CANCELLED
    assert all(map(is_gone, pids))


def test_a_stopped_job_can_be_cancelled(jobs: Jobs) -> None:
    job = jobs.launch("echo $$ > script; while :; do sleep 0.05; done")
    os.kill(jobs.pid_in("script"), signal.SIGSTOP)
    jobs.store.cancel(CLUSTER, job.job_id)
    assert jobs.ended(job, timeout=3.0).state is JobState.CANCELLED


def test_a_job_that_keeps_forking_is_cancelled_whole(jobs: Jobs) -> None:
    job = jobs.launch(
        "trap '' TERM; touch ready; for i in $(seq 200); do setsid sleep 300 & sleep 0.01; done"
    )
    eventually_sync((jobs.working_dir / "ready").exists)
    job = jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.2)
    assert jobs.ended(job, timeout=5.0).state is JobState.CANCELLED


def test_cancelling_a_job_that_has_ended_changes_nothing(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("exit 4"))
    assert jobs.store.cancel(CLUSTER, job.job_id) == job
    assert jobs.reopened().cancel(CLUSTER, job.job_id) == job


def test_many_cancels_at_once_agree(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300"))
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(jobs.reopened().cancel, CLUSTER, job.job_id) for _ in range(8)]
    assert {answer.result().state for answer in answers} == {JobState.CANCELLED}


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05])
def test_a_natural_end_and_a_cancel_have_one_winner(jobs: Jobs, seconds: float) -> None:
    job = jobs.launch("sleep 0.02")
    time.sleep(seconds)
    answer = jobs.store.cancel(CLUSTER, job.job_id)
    ended = jobs.ended(job)
    assert (ended.state, ended.reason) in (
        (JobState.SUCCEEDED, TerminationReason.COMPLETED),
        (JobState.CANCELLED, TerminationReason.USER_CANCELLED),
    )
    # The cancel told this end, or that it was under way.
    assert answer == ended or answer.state is JobState.CANCELLING
    assert jobs.reopened().get(CLUSTER, job.job_id) == ended
    assert jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.0) == ended


def test_a_job_whose_supervisor_was_killed_can_be_cancelled(tmp_path: Path, jobs: Jobs) -> None:
    jobs = jobs.changed(working_dir=tmp_path, grace_seconds=0.5)
    job = jobs.launch(STUBBORN)
    pids = [jobs.pid_in("child"), jobs.pid_in("grandchild")]
    jobs.kill_supervisor(job)
    assert jobs.now(job).state is JobState.RUNNING
    jobs.store.cancel(CLUSTER, job.job_id)
    job = jobs.ended(job)
    assert job.reason is TerminationReason.USER_CANCELLED
    assert all(map(is_gone, pids))


def test_a_cancel_survives_the_supervisor_that_was_carrying_it_out(jobs: Jobs) -> None:
    job = jobs.launch(STUBBORN)
    pids = [jobs.pid_in("child"), jobs.pid_in("grandchild")]
    jobs.store.cancel(CLUSTER, job.job_id, wait_seconds=0.0)
    jobs.kill_supervisor(job)
    assert jobs.now(job).state is JobState.CANCELLING
    jobs.store.cancel(CLUSTER, job.job_id, grace_seconds=0.0)
    assert jobs.ended(job).reason is TerminationReason.USER_CANCELLED
    assert all(map(is_gone, pids))


def test_a_request_nobody_was_woken_for_is_still_seen(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300"))
    JobFolder(job.job_dir).request_cancel(1.0)
    assert jobs.ended(job, timeout=10.0).state is JobState.CANCELLED


def test_processes_of_another_job_with_the_same_key_are_left_alone(jobs: Jobs) -> None:
    other = jobs.store.launch("other", jobs.request("sleep 300", key="same"))
    job = jobs.running(jobs.launch("sleep 300", key="same"))
    assert jobs.store.cancel(CLUSTER, job.job_id).state is JobState.CANCELLED
    now = jobs.store.get("other", other.job_id)
    assert now is not None
    assert now.state is JobState.RUNNING
