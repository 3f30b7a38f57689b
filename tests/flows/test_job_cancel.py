"""Cancelling a job through its run's state, by any client at any time."""

import asyncio
import threading
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType

from flows.core import names
from flows.core.states import JobState, TerminationReason
from flows.job.launch_plan import LaunchPlan, PreparedLaunch
from tests.flows.bench import PATIENCE_SECONDS, Bench, Outage
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

CANCELLED = (JobState.CANCELLED, TerminationReason.USER_CANCELLED)


async def test_a_running_job_is_cancelled(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.cancel(job_id)
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled on request.")
    assert job.cancels == 1


async def test_a_job_that_is_still_there_is_not_yet_cancelled(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore")
        job = await bench.launched(job_id)
        await bench.cancel(job_id)
        await eventually(lambda: job.cancels == 1, timeout=PATIENCE_SECONDS)
        looks = bench.launcher.calls["observe"]
        await eventually(
            lambda: bench.launcher.calls["observe"] > looks + 3, timeout=PATIENCE_SECONDS
        )
        assert (await bench.run(job_id)).state_name == "Cancelling"
        await bench.client.update_flow_run_labels(job_id, {"oumi.force_cancel": True})
        assert (await bench.ending(job_id))[:2] == CANCELLED
    assert job.cancels == 2


async def test_a_cancel_that_the_cluster_does_not_take_is_sent_again(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        bench.launcher.unreachable = "the cluster is on holiday"
        await bench.cancel(job_id)
        await eventually(lambda: bench.launcher.calls["cancel"] > 1, timeout=PATIENCE_SECONDS)
        bench.launcher.unreachable = None
        assert (await bench.ending(job_id))[:2] == CANCELLED
    assert job.cancels == 1


async def test_a_scheduled_job_is_cancelled_without_a_worker(bench: Bench) -> None:
    job_id = await bench.submit("hold")
    await bench.cancel(job_id)
    assert (await bench.ending(job_id))[:2] == CANCELLED


async def test_a_queued_job_is_cancelled_and_never_launched(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"local_slots": 1})
    async with bench.worker(settings=settings) as worker:
        first = await bench.submit("hold")
        job = await bench.launched(first)
        queued = await bench.submit("hold")
        await bench.reaches(queued, JobState.QUEUED)
        await bench.cancel(queued)
        assert (await bench.ending(queued))[:2] == CANCELLED
        job.succeed()
        await bench.ending(first)
        await bench.let_go(worker)
    assert bench.launcher.launches == [names.launch_key(first, 1)]


async def test_a_run_cancelled_before_its_worker_began_it_is_never_launched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(unowned=0.2)
    async with bench.worker() as worker:
        pending = await bench.submit("hold")
        await bench.set_state(pending, StateType.PENDING)
        await bench.cancel(pending)
        assert await bench.ending(pending) == (*CANCELLED, "Cancelled before it was launched.")
        await bench.let_go(worker)
    assert bench.launcher.launches == []


async def test_a_job_cancelled_while_its_launch_blocks_is_cancelled_once_it_exists(
    bench: Bench,
) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.launcher.launching.wait()
        looks = bench.launcher.calls["observe"]
        await bench.cancel(job_id)
        assert (await bench.run(job_id)).state_name == "Cancelling"
        assert bench.launcher.calls["observe"] == looks
        bench.launcher.gate.set()
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled on request.")
    (job,) = bench.launcher.jobs.values()
    assert job.cancels == 1


class StalledChecks:
    """Checks that come to no end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def before_launch(self, launch: object) -> list[object]:
        self.begun.set()
        return await asyncio.get_running_loop().create_future()


async def test_a_job_cancelled_during_its_pre_flight_is_never_launched(bench: Bench) -> None:
    checks = StalledChecks()
    async with bench.worker(checks=checks) as worker:
        job_id = await bench.submit("hold")
        await asyncio.wait_for(checks.begun.wait(), PATIENCE_SECONDS)
        await bench.cancel(job_id)
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled before it was launched.")
        await bench.let_go(worker)
    assert bench.launcher.launches == []


async def test_a_job_cancelled_while_its_launch_is_prepared_is_never_launched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()
    prepare = LaunchPlan.prepare

    def prepare_late(plan: LaunchPlan, attempt: int, **given: Any) -> PreparedLaunch:
        begun.set()
        assert gate.wait(PATIENCE_SECONDS)
        return prepare(plan, attempt, **given)

    monkeypatch.setattr(LaunchPlan, "prepare", prepare_late)
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        await eventually(begun.is_set, timeout=PATIENCE_SECONDS)
        await bench.cancel(job_id)
        await eventually(lambda: worker.is_asked_to_end(job_id), timeout=PATIENCE_SECONDS)
        gate.set()
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled before it was launched.")
        await bench.let_go(worker)
    assert bench.launcher.launches == []


async def test_a_cancel_that_came_to_nothing_is_sent_again_with_the_same_grace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(cancel_again=0.2)
    async with bench.worker():
        job_id = await bench.submit("ignore")
        job = await bench.launched(job_id)
        await bench.cancel(job_id)
        await eventually(lambda: job.cancels > 2, timeout=PATIENCE_SECONDS)
        assert not job.state.is_terminal  # as it were by force
        job.stubborn = False
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled on request.")


async def test_a_force_is_meant_for_the_attempt_it_was_asked_of(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore")
        await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.client.update_flow_run_labels(job_id, {"oumi.force_cancel": True})
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[:2] == CANCELLED
        await bench.retry(job_id)
        again = await bench.launched(job_id, attempt=2)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.cancel(job_id)
        await eventually(lambda: again.cancels, timeout=PATIENCE_SECONDS)
        assert not again.state.is_terminal  # as it were by force
        again.succeed()
        assert (await bench.ending(job_id))[:2] == CANCELLED


async def test_a_job_that_ended_before_the_cancel_says_so(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await bench.submit("exit 0")
        await bench.launcher.launching.wait()
        await bench.cancel(job_id)
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        job.succeed()
        state, reason, _ = await bench.ending(job_id)
    assert (state, reason) == CANCELLED


async def test_a_cancel_asked_while_no_worker_runs_is_honoured_by_the_next(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    await bench.cancel(job_id)
    assert (await bench.run(job_id)).state_name == "Cancelling"
    async with bench.worker():
        assert await bench.ending(job_id) == (*CANCELLED, "Cancelled on request.")
    assert job.cancels == 1


async def test_an_unreachable_cluster_does_not_end_the_worker_that_finishes_a_cancel(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    await bench.cancel(job_id)
    bench.launcher.unreachable = "the cluster is on holiday"
    async with bench.worker():
        await eventually(
            lambda: bench.launcher.calls["find"] + bench.launcher.calls["cancel"] > 2,
            timeout=PATIENCE_SECONDS,
        )
        bench.launcher.unreachable = None
        assert (await bench.ending(job_id))[:2] == CANCELLED


async def test_a_run_deleted_while_its_cancel_is_finished_does_not_end_the_worker(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore")
        await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    await bench.cancel(job_id)
    async with bench.worker() as worker:
        job = await bench.launched(job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.client.delete_flow_run(job_id)
        job.succeed()
        await bench.let_go(worker)
        another = await bench.submit("exit 0")
        assert (await bench.ending(another))[1] is TerminationReason.COMPLETED


async def test_the_job_of_a_run_that_was_deleted_is_ended(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.client.delete_flow_run(job_id)
        await eventually(lambda: job.state.is_terminal, timeout=PATIENCE_SECONDS)
        await bench.let_go(worker)
        another = await bench.submit("exit 0")
        assert (await bench.ending(another))[1] is TerminationReason.COMPLETED


@pytest.mark.parametrize("cloud", ["local", "gcp"])
async def test_the_job_of_a_run_that_was_deleted_before_it_ran_is_ended(
    bench: Bench, cloud: str
) -> None:
    config = bench.folder / "job.yaml"
    config.write_text("name: bench\nrun: hold\n")
    bench.launcher.gate.clear()
    async with bench.worker() as worker:
        job_id = await bench.submit_config(config, cloud=cloud)
        await bench.launcher.launching.wait()
        await bench.client.delete_flow_run(job_id)
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        await eventually(lambda: job.state.is_terminal, timeout=PATIENCE_SECONDS)
        await bench.let_go(worker)


async def test_a_job_runs_on_while_nobody_can_say_whether_its_run_is_deleted(
    bench: Bench, outage: Outage
) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        outage.failing = 500
        await eventually(lambda: outage.refused > 10, timeout=PATIENCE_SECONDS)
        outage.failing = None
        assert job.cancels == 0
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


@pytest.mark.parametrize(
    "kind", [StateType.CANCELLED, StateType.FAILED, StateType.COMPLETED, StateType.CRASHED]
)
async def test_a_terminal_state_set_over_a_running_job_ends_the_job_and_stays(
    bench: Bench, kind: StateType
) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.set_state(job_id, kind, "Decided")
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.let_go(worker)
        assert (await bench.states(job_id))[-2:] == ["Running", "Decided"]


async def test_a_terminal_state_set_over_a_launching_job_ends_the_job_and_stays(
    bench: Bench,
) -> None:
    """The job comes to run after the state was set, and must not set it running again."""
    bench.launcher.gate.clear()
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        await bench.launcher.launching.wait()
        await bench.set_state(job_id, StateType.CANCELLED)
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.let_go(worker)
        assert (await bench.states(job_id))[-2:] == ["Launching", "Cancelled"]


async def test_a_run_concluded_and_retried_while_its_job_ends_gets_its_retry(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("ignore")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.set_state(job_id, StateType.CANCELLED)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.retry(job_id)
        job.succeed()
        again = await bench.launched(job_id, attempt=2)
        again.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert len(bench.launcher.launches) == 2


async def test_a_job_waiting_for_its_retry_is_cancelled(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold", max_retries=1)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.fail(TerminationReason.PREEMPTED, "The node was taken away.")
        await bench.reaches(job_id, JobState.RETRYING)
        await bench.let_go(worker)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[:2] == CANCELLED
        await bench.let_go(worker)
    assert len(bench.launcher.launches) == 1
