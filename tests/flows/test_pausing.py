"""What Pause and Resume of the Prefect UI do to jobs, over a launcher in memory."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.core.stopwatch import Stopwatch
from flows.launcher.port import LauncherState
from tests.flows.bench import PATIENCE_SECONDS, Bench, state_of
from tests.flows.family import Family, family_on
from tests.support.fake_launcher import FakeJob
from tests.support.prefect_page import press_cancel, press_pause, press_resume
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture
async def family(bench: Bench, cold_stack: Stack) -> AsyncGenerator[Family]:
    async with family_on(bench, cold_stack.connection) as made:
        yield made


async def begin(bench: Bench, **request: Any) -> tuple[UUID, FakeJob]:
    """A job that runs."""
    job_id = await bench.submit("hold", **request)
    job = await bench.launched(job_id)
    await shows(bench, job_id, "Running")
    return job_id, job


async def shows(bench: Bench, job_id: UUID, name: str, *, says: str = "") -> FlowRun:
    """The run once its state has a name, and a message that contains a text."""

    async def is_shown() -> FlowRun | None:
        run = await bench.run(job_id)
        state = run.state
        is_so = state is not None and state.name == name and says in (state.message or "")
        return run if is_so else None

    run = await eventually(is_shown, timeout=PATIENCE_SECONDS)
    assert run is not None
    return run


async def frozen(job: FakeJob, *, paused: bool = True) -> None:
    await eventually(lambda: job.is_paused is paused, timeout=PATIENCE_SECONDS, interval=0.02)


async def says(bench: Bench, job_id: UUID, text: str) -> None:
    """Wait until the run's log has a line with a text: it is sent a while after."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[job_id]))

    async def is_said() -> bool:
        return any(text in log.message for log in await bench.client.read_logs(wanted))

    await eventually(is_said, timeout=PATIENCE_SECONDS)


async def finish(bench: Bench, job_id: UUID, job: FakeJob) -> None:
    """The job goes on to its end, which is that of its only launch."""
    job.succeed()
    assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert len(bench.launcher.launches) == 1


async def test_a_paused_job_is_frozen_and_goes_on_when_it_is_resumed(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        await press_pause(bench.client, job_id)
        run = await shows(bench, job_id, "Paused", says="Its processes are frozen")
        assert job.is_paused
        assert (state_of(run), run.state and run.state.state_details.pause_timeout) == (
            JobState.RUNNING,
            None,
        )
        await press_resume(bench.client, job_id)
        await frozen(job, paused=False)
        assert state_of(await bench.run(job_id)) is JobState.RUNNING
        await finish(bench, job_id, job)
    await says(bench, job_id, "Paused in Prefect at")
    await says(bench, job_id, "It goes on.")
    assert "Resuming" not in await bench.states(job_id)


async def test_a_pause_ends_by_itself(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        await press_pause(bench.client, job_id, seconds=3)
        await frozen(job)
        await shows(bench, job_id, "Running", says="Its pause was over")
        assert not job.is_paused
        await finish(bench, job_id, job)


async def test_a_pause_through_the_api_has_no_end_unless_it_gives_one(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        await bench.set_state(job_id, StateType.PAUSED)
        run = await shows(bench, job_id, "Paused", says="frozen")
        assert run.state
        assert (run.state.message or "").endswith("Resume it in the Prefect UI.")
        await press_resume(bench.client, job_id)
        await frozen(job, paused=False)
        await finish(bench, job_id, job)


async def test_the_last_of_many_presses_counts(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        for _ in range(4):
            await press_pause(bench.client, job_id)
            # One that comes with the worker's own write of the state may find it running.
            await press_resume(bench.client, job_id, expects=("ACCEPT", "ABORT"))
        await shows(bench, job_id, "Running")
        await frozen(job, paused=False)
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Paused", says="frozen")
        await frozen(job)
        await press_resume(bench.client, job_id)
        await frozen(job, paused=False)
        await finish(bench, job_id, job)


@pytest.mark.parametrize("name", ["Resuming", "Late", "Scheduled"])
async def test_a_job_resumed_before_its_worker_saw_the_pause_reads_running(
    bench: Bench, name: str
) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        # Prefect renames a scheduled run that does not start to Late.
        await bench.client.set_flow_run_state(
            job_id, State(type=StateType.SCHEDULED, name=name), force=True
        )
        await shows(bench, job_id, "Running")
        await finish(bench, job_id, job)


@pytest.mark.parametrize("how", ["resumed", "over", "still paused", "cancelled"])
async def test_a_pause_outlives_the_worker(bench: Bench, how: str) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        await press_pause(bench.client, job_id, seconds=2 if how == "over" else 300)
        await shows(bench, job_id, "Paused", says="frozen")
    if how == "resumed":
        await press_resume(bench.client, job_id)
    if how == "cancelled":
        await press_cancel(bench.client, job_id)
        assert state_of(await bench.run(job_id)) is JobState.CANCELLING
    async with bench.worker() as worker:
        if how == "cancelled":
            assert (await bench.ending(job_id))[1] is TerminationReason.USER_CANCELLED
            return
        if how == "still paused":
            await eventually(lambda: job_id in worker.active, timeout=PATIENCE_SECONDS)
            looks = bench.launcher.calls["observe"]
            await eventually(
                lambda: bench.launcher.calls["observe"] > looks + 5, timeout=PATIENCE_SECONDS
            )
            assert job.pauses == [True]
            await shows(bench, job_id, "Paused", says="frozen")
            await press_resume(bench.client, job_id)
        await frozen(job, paused=False)
        await finish(bench, job_id, job)


@pytest.mark.parametrize("how", ["paused", "over", "resumed"])
async def test_a_pause_while_no_worker_runs_is_applied_later(bench: Bench, how: str) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
    await press_pause(bench.client, job_id, seconds=0.01 if how == "over" else 300)
    if how == "resumed":
        await press_resume(bench.client, job_id)
    async with bench.worker():
        if how == "paused":
            await shows(bench, job_id, "Paused", says="frozen")
            assert job.is_paused
            await press_resume(bench.client, job_id)
        await shows(bench, job_id, "Running")
        await frozen(job, paused=False)
        await finish(bench, job_id, job)


@pytest.mark.parametrize("force", [False, True])
async def test_a_paused_job_can_be_cancelled(bench: Bench, force: bool) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Paused", says="frozen")
        if force:
            labels = RunLabels(force_cancel=True).as_labels()
            await bench.client.update_flow_run_labels(job_id, labels)
        await press_cancel(bench.client, job_id)
        state, reason, _ = await bench.ending(job_id)
        assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
        assert job.cancels == 1
    assert "Cancelling" in await bench.states(job_id)


async def test_a_job_cancelled_at_once_after_its_pause_ends_too(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id, job = await begin(bench)
        await press_pause(bench.client, job_id)
        await press_cancel(bench.client, job_id)
        assert (await bench.ending(job_id))[0] is JobState.CANCELLED
        await bench.let_go(worker)
        assert job.state is LauncherState.CANCELLED


async def test_paused_time_counts_neither_for_the_limit_nor_as_duration(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench, timeout_seconds=3600.0)
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Paused", says="frozen")
        stopped = await stopwatches(bench, job_id)
        assert [watch.since for watch in stopped] == [None, None]
    async with bench.worker() as worker:
        await eventually(lambda: job_id in worker.active, timeout=PATIENCE_SECONDS)
        await press_resume(bench.client, job_id)
        await frozen(job, paused=False)

        async def have_both_started() -> bool:
            return all(watch.since for watch in await stopwatches(bench, job_id))

        await eventually(have_both_started, timeout=PATIENCE_SECONDS)
        _, limit = await stopwatches(bench, job_id)
        assert limit.before == stopped[1].before
        await finish(bench, job_id, job)


async def stopwatches(bench: Bench, job_id: UUID) -> list[Stopwatch]:
    """That of the run, and that of the attempt with a limit."""
    labels = RunLabels.read((await bench.run(job_id)).labels)
    watches = [labels.stopwatch, labels.limit_stopwatch]
    return [watch for watch in watches if watch is not None]


async def test_a_job_on_a_cloud_goes_on_and_says_why(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await bench.submit("hold", cloud="gcp")
        await bench.launcher.launching.wait()
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Launching", says="A job on gcp cannot be paused")
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        await shows(bench, job_id, "Running")
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Running", says="A job on gcp cannot be paused")
        assert job.pauses == []
        await finish(bench, job_id, job)
    await says(bench, job_id, "It was paused in Prefect. A job on gcp cannot be paused")


async def test_a_job_on_a_cloud_whose_pause_was_over_before_a_worker_came_goes_on(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", cloud="gcp")
        job = await bench.launched(job_id)
        await shows(bench, job_id, "Running")
    await press_pause(bench.client, job_id, seconds=0.01)
    async with bench.worker():
        await shows(bench, job_id, "Running", says="cannot be paused")
        await finish(bench, job_id, job)


async def test_a_pipeline_goes_on_and_its_step_can_be_paused(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(family.step("train"))
        job = await family.launched(parent, "train")
        await press_pause(bench.client, parent)
        await shows(bench, parent, "Running", says="cannot be paused as a whole")
        assert not job.is_paused
        step = (await family.children(parent))["train"].id
        await shows(bench, step, "Running")
        await press_pause(bench.client, step)
        await shows(bench, step, "Paused", says="frozen")
        await press_resume(bench.client, step)
        await frozen(job, paused=False)
        job.succeed()
        assert (await bench.ending(parent))[1] is TerminationReason.COMPLETED


async def test_a_pipeline_paused_while_no_worker_runs_goes_on(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(family.step("train"))
        job = await family.launched(parent, "train")
    await press_pause(bench.client, parent, seconds=0.01)
    async with bench.worker():
        await shows(bench, parent, "Running", says="cannot be paused as a whole")
        job.succeed()
        assert (await bench.ending(parent))[1] is TerminationReason.COMPLETED


@pytest.mark.parametrize("how", ["resumed", "over"])
async def test_a_job_paused_before_it_began_does_not_start_until_then(
    bench: Bench, how: str
) -> None:
    bench.wait(unowned=0.2, claim=0.0)
    job_id = await bench.submit("hold")
    await press_pause(bench.client, job_id, seconds=3 if how == "over" else 300)
    async with bench.worker():
        if how == "resumed":
            run = await shows(bench, job_id, "PausedWaiting", says="before it began")
            assert state_of(run) is JobState.SCHEDULED
            another = await bench.submit("exit 0")
            assert (await bench.ending(another))[1] is TerminationReason.COMPLETED
            assert job_id not in {UUID(key.split("-")[1]) for key in bench.launcher.launches}
            await press_resume(bench.client, job_id)
        job = await bench.launched(job_id)
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert len(set(bench.launcher.launches)) == len(bench.launcher.launches)


async def test_a_job_paused_before_its_retry_does_not_start_until_then(bench: Bench) -> None:
    bench.wait(unowned=0.2, claim=0.0, retry=300.0)
    async with bench.worker() as worker:
        job_id, job = await begin(bench, max_retries=1)
        job.end(LauncherState.FAILED, TerminationReason.PREEMPTED)
        await shows(bench, job_id, "AwaitingRetry")
        await bench.let_go(worker)
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "PausedWaiting")
        await press_resume(bench.client, job_id)
        second = await bench.launched(job_id, 2)
        second.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert len(bench.launcher.launches) == 2


async def test_a_job_of_an_earlier_version_goes_on_and_says_why(bench: Bench) -> None:
    async with bench.worker():
        job_id, job = await begin(bench)
        job.is_paused = None
        looks = bench.launcher.calls["observe"]
        await eventually(lambda: bench.launcher.calls["observe"] > looks + 1)
        await press_pause(bench.client, job_id)
        await shows(bench, job_id, "Running", says="An earlier version launched this job")
        await finish(bench, job_id, job)
