"""Pausing: nothing of a frozen job runs, and it goes on where it was."""

import os
import signal
import time
from pathlib import Path

import pytest

from flows.core.errors import JobNotFound
from flows.core.states import JobState, TerminationReason
from flows.core.training.record import Segment
from flows.core.training.recorder import record_folder
from flows.core.training.usage_names import USAGE_SEGMENT
from flows.launcher.local.control_group import own_group
from flows.launcher.local.job import LocalJob
from flows.launcher.local.store import LocalStore
from tests.local_cloud.jobs import CLUSTER, Jobs
from tests.support.waiting import eventually_sync

COUNTING = """
count() {{ while :; do echo >> $1; sleep 0.01 || :; done; }}
count main &
setsid bash -c 'while :; do echo >> other; bash -c "echo >> child"; done' &
trap 'echo asked >> asked; exit 0' TERM
{more}
while :; do echo >> script; sleep 0.01 || :; done
"""
FILES = ("main", "other", "child", "script")


class Counting:
    """A job of several processes and sessions, each of which writes to a file all the time."""

    def __init__(self, jobs: Jobs, *, more: str = "") -> None:
        self.jobs = jobs
        self.job = jobs.launch(COUNTING.format(more=more))
        self.grows()

    def sizes(self) -> list[int]:
        return [(self.jobs.working_dir / name).stat().st_size for name in FILES]

    def grows(self) -> None:
        """Every file grows."""
        eventually_sync(lambda: all((self.jobs.working_dir / name).exists() for name in FILES))
        before = self.sizes()
        eventually_sync(
            lambda: all(now > was for now, was in zip(self.sizes(), before, strict=True))
        )

    def stands_still(self) -> None:
        """No file grows for ten times as long as one of them takes to."""
        before, until = self.sizes(), time.monotonic() + 0.3
        eventually_sync(lambda: time.monotonic() > until, interval=0.02)
        assert self.sizes() == before

    def pause(self, store: LocalStore | None = None) -> LocalJob:
        return self._set(store, paused=True)

    def resume(self, store: LocalStore | None = None) -> LocalJob:
        return self._set(store, paused=False)

    def _set(self, store: LocalStore | None, *, paused: bool) -> LocalJob:
        job = (store or self.jobs.store).set_paused(
            CLUSTER, self.job.job_id, paused=paused, wait_seconds=10.0
        )
        assert (job.state, job.is_paused) == (JobState.RUNNING, paused)
        return job


@pytest.fixture(params=["grouped", "signalled"])
def counting(jobs: Jobs, request: pytest.FixtureRequest) -> Counting:
    """The job of several processes, with a control group and without one."""
    if request.param == "grouped":
        if own_group() is None or not os.access(own_group() or "/", os.W_OK):
            pytest.skip("This system allows no control groups.")
        return Counting(jobs)
    jobs.store._uses_control_groups = False  # pyright: ignore[reportPrivateUsage]
    return Counting(jobs)


def test_nothing_of_a_paused_job_runs_and_it_goes_on(counting: Counting) -> None:
    counting.pause()
    counting.stands_still()
    assert counting.jobs.now(counting.job).is_paused
    counting.resume()
    counting.grows()


def test_the_last_of_many_requests_counts(counting: Counting) -> None:
    for paused in [True, False] * 5:
        counting.jobs.store.set_paused(
            CLUSTER, counting.job.job_id, paused=paused, wait_seconds=0.0
        )
    counting.grows()
    for paused in [True, False, True]:
        counting.jobs.store.set_paused(
            CLUSTER, counting.job.job_id, paused=paused, wait_seconds=0.0
        )
    eventually_sync(lambda: counting.jobs.now(counting.job).is_paused, interval=0.01)
    counting.stands_still()


def test_a_pause_outlives_launcher_and_supervisor(counting: Counting) -> None:
    counting.pause()
    counting.jobs.kill_supervisor(counting.job)
    counting.stands_still()
    assert counting.jobs.now(counting.job).is_paused
    counting.resume(counting.jobs.reopened())
    counting.grows()
    counting.jobs.kill_supervisor(counting.job)
    counting.pause(counting.jobs.reopened())
    counting.stands_still()


def test_a_paused_job_is_asked_to_end_and_has_its_grace(counting: Counting) -> None:
    counting.pause()
    before = counting.sizes()[FILES.index("script")]
    counting.jobs.store.cancel(CLUSTER, counting.job.job_id)
    job = counting.jobs.ended(counting.job)
    assert (job.state, job.reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert (counting.jobs.working_dir / "asked").exists()
    assert counting.sizes()[FILES.index("script")] <= before + 2


def test_a_paused_job_is_killed_by_force(counting: Counting) -> None:
    counting.pause()
    counting.jobs.store.cancel(CLUSTER, counting.job.job_id, grace_seconds=0.0)
    assert counting.jobs.ended(counting.job).state is JobState.CANCELLED


def test_a_paused_job_whose_supervisor_died_can_be_cancelled(counting: Counting) -> None:
    counting.pause()
    counting.jobs.kill_supervisor(counting.job)
    counting.jobs.reopened().cancel(CLUSTER, counting.job.job_id)
    assert counting.jobs.ended(counting.job).state is JobState.CANCELLED


def test_a_paused_job_that_is_killed_from_outside_has_ended(jobs: Jobs) -> None:
    job = jobs.launch("echo $$ > script; while :; do sleep 0.05; done")
    pid = jobs.pid_in("script")
    jobs.store.set_paused(CLUSTER, job.job_id, paused=True)
    os.kill(pid, signal.SIGKILL)
    assert jobs.ended(job).reason is TerminationReason.KILLED


def test_pauses_are_in_the_training_record(
    counting: Counting,
) -> None:
    counting.pause()
    counting.resume()
    counting.pause()
    segment = Segment(record_folder(counting.job.log_path) / USAGE_SEGMENT)
    assert [event["kind"] for event in segment.events()] == ["pause", "resume", "pause"]


def test_a_paused_job_in_the_queue_does_not_start_and_lets_others_pass(
    tmp_path: Path, jobs: Jobs
) -> None:
    jobs = jobs.changed(slots=1, working_dir=tmp_path)
    first = jobs.running(jobs.launch("while [ ! -e go ]; do sleep 0.02; done"))
    second, third = jobs.launch("sleep 300", key="second"), jobs.launch("sleep 300")
    paused = jobs.store.set_paused(CLUSTER, second.job_id, paused=True, wait_seconds=10.0)
    assert (paused.state, paused.is_paused) == (JobState.QUEUED, True)
    (tmp_path / "go").touch()
    jobs.ended(first)
    jobs.running(third)
    jobs.kill_supervisor(second)
    assert jobs.store.revive(CLUSTER, second.job_id)
    resumed = jobs.store.set_paused(CLUSTER, second.job_id, paused=False, wait_seconds=10.0)
    assert (resumed.state, resumed.is_paused) == (JobState.QUEUED, False)
    jobs.store.cancel(CLUSTER, third.job_id)
    jobs.running(second)


def test_a_paused_job_keeps_its_slot(tmp_path: Path, jobs: Jobs) -> None:
    jobs = jobs.changed(slots=1, working_dir=tmp_path)
    first = jobs.running(jobs.launch("sleep 300"))
    second = jobs.launch("true")
    jobs.store.set_paused(CLUSTER, first.job_id, paused=True, wait_seconds=10.0)
    assert jobs.now(second).state is JobState.QUEUED
    jobs.store.cancel(CLUSTER, first.job_id)
    assert jobs.ended(second).state is JobState.SUCCEEDED


def test_a_job_that_has_ended_does_not_change(jobs: Jobs) -> None:
    job = jobs.ended(jobs.launch("exit 4"))
    assert jobs.store.set_paused(CLUSTER, job.job_id, paused=True) == job


def test_a_job_of_an_earlier_version_cannot_be_paused(jobs: Jobs) -> None:
    job = jobs.running(jobs.launch("sleep 300"))
    (job.job_dir / "pause").unlink()
    assert jobs.now(job).is_paused is None
    with pytest.raises(JobNotFound):
        jobs.store.set_paused(CLUSTER, job.job_id, paused=True)
