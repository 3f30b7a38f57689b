"""A job that runs longer than it may is ended, and says so."""

from datetime import timedelta
from uuid import UUID

import pytest

from flows.core.errors import ClusterUnreachable
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


async def test_a_job_that_runs_too_long_is_ended_and_timed_out(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", timeout_seconds=0.3)
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.TIMED_OUT,
            "Ended, because it ran longer than its limit of 0.3 s.",
        )
        assert (await bench.launched(job_id)).cancels == 1
    assert (await bench.states(job_id))[-1] == "TimedOut"


async def test_the_limit_counts_from_when_the_job_ran_whoever_watches_it(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", timeout_seconds=2.0)
        await bench.reaches(job_id, JobState.RUNNING)
        since = await eventually(lambda: _since(bench, job_id), timeout=PATIENCE_SECONDS)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.TIMED_OUT
        assert await _since(bench, job_id) == since


async def test_a_clock_that_is_set_forward_ends_no_job(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", timeout_seconds=3600.0)
        await bench.reaches(job_id, JobState.RUNNING)
        job = await bench.launched(job_id)
        await eventually(lambda: _since(bench, job_id), timeout=PATIENCE_SECONDS)
        job.clock_ahead = timedelta(days=1)
        looks = bench.launcher.calls["observe"]
        await eventually(
            lambda: bench.launcher.calls["observe"] > looks + 5, timeout=PATIENCE_SECONDS
        )
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
        assert job.cancels == 0


async def test_a_worker_cut_off_while_it_ends_a_job_is_followed_by_one_that_knows_why(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore", timeout_seconds=0.2)
        job = await bench.launched(job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
    job.end(LauncherState.CANCELLED, TerminationReason.USER_CANCELLED)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.TIMED_OUT


async def test_a_job_whose_time_was_up_is_ended_by_whoever_watches_it_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise ClusterUnreachable("the cluster is on holiday", "It is asked again")

    with monkeypatch.context() as patch:
        patch.setattr(bench.launcher, "cancel", refuse)
        async with bench.worker():
            job_id = await bench.submit("hold", timeout_seconds=0.2)
            job = await bench.launched(job_id)
            await eventually(lambda: _is_timed_out(bench, job_id), timeout=PATIENCE_SECONDS)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.TIMED_OUT
    assert job.cancels == 1


async def test_a_job_cancelled_after_its_time_was_up_is_cancelled(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore", timeout_seconds=0.2)
        job = await bench.launched(job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.cancel(job_id)
        await eventually(lambda: job.cancels > 1, timeout=PATIENCE_SECONDS)
        job.end(LauncherState.CANCELLED, TerminationReason.USER_CANCELLED)
        assert (await bench.ending(job_id))[1] is TerminationReason.USER_CANCELLED


async def test_a_job_that_finished_as_its_time_was_up_has_succeeded(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore", timeout_seconds=0.2)
        job = await bench.launched(job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def test_time_in_a_queue_does_not_count(bench: Bench) -> None:
    bench.launcher.slots = 1
    async with bench.worker():
        first = await bench.submit("hold")
        await bench.reaches(first, JobState.RUNNING)
        second = await bench.submit("hold", timeout_seconds=1.0)
        job = await bench.launched(second)
        await eventually(lambda: bench.launcher.calls["observe"] > 5, timeout=PATIENCE_SECONDS)
        assert job.state is LauncherState.PENDING
        assert await _since(bench, second) is None
        for waiting in (first, second):
            await bench.cancel(waiting)
            await bench.ending(waiting)


async def _since(bench: Bench, job_id: UUID) -> object:
    return (await bench.run(job_id)).labels.get("oumi.limit_stopwatch")


async def _is_timed_out(bench: Bench, job_id: UUID) -> bool:
    return "oumi.timed_out_attempt" in (await bench.run(job_id)).labels
