"""Jobs whose cluster cannot be reached: their launch fails, and their cancel has an end."""

import asyncio
from uuid import UUID

import pytest

from flows.core import names
from flows.core.errors import ClusterUnreachable, LaunchFailed, NothingSubmitted
from flows.core.models import JobHandle
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

AWAY = ClusterUnreachable("Slurm at me@there did not answer: Connection refused", "Ask again")
NO_ACCESS = LaunchFailed("ssh does not get in to me@there: unknown host", "Have ssh work")


async def submit(bench: Bench, **request: object) -> UUID:
    config = bench.folder / "slurm.yaml"
    config.write_text("name: slurm\nrun: hold\n")
    return await bench.submit_config(config, cloud="slurm", cluster_name="me@there", **request)


async def force(bench: Bench, job_id: UUID) -> None:
    await bench.client.update_flow_run_labels(job_id, {"oumi.force_cancel": True})
    await bench.cancel(job_id)


def soon(bench: Bench, **limits: float) -> None:
    """Wait for clusters for less long."""
    bench.settings = bench.settings.model_copy(update=limits)


async def test_a_cluster_that_refuses_us_fails_the_launch_at_once(bench: Bench) -> None:
    bench.launcher.closed = NO_ACCESS
    async with bench.worker():
        job_id = await submit(bench)
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.LAUNCH_FAILED,
            "ssh does not get in to me@there: unknown host. Have ssh work.",
        )
    assert bench.launcher.launches == []


async def test_a_cluster_that_is_not_reached_in_time_fails_the_launch(bench: Bench) -> None:
    soon(bench, reach_timeout_seconds=0.5)
    bench.launcher.closed = AWAY
    async with bench.worker():
        job_id = await submit(bench)
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.LAUNCH_FAILED)
    assert "me@there did not answer: Connection refused; nothing was submitted." in text
    assert bench.launcher.calls["reach"] > 1
    assert bench.launcher.launches == []


async def test_a_launch_that_submitted_nothing_is_made_again_and_then_fails(bench: Bench) -> None:
    soon(bench, reach_timeout_seconds=0.5)
    bench.launcher.refusal = NothingSubmitted("the copy stopped", "Ask again")
    async with bench.worker():
        job_id = await submit(bench)
        _, reason, text = await bench.ending(job_id)
    assert (reason, len(set(bench.launcher.launches))) == (TerminationReason.LAUNCH_FAILED, 1)
    assert len(bench.launcher.launches) > 1
    assert "the copy stopped; nothing was submitted." in text
    assert bench.launcher.calls["find"] == 0


async def test_a_retry_reaches_a_cluster_that_is_back(bench: Bench) -> None:
    bench.launcher.closed = NO_ACCESS
    async with bench.worker():
        job_id = await submit(bench)
        assert (await bench.ending(job_id))[1] is TerminationReason.LAUNCH_FAILED
        bench.launcher.closed = None
        await bench.retry(job_id)
        (await bench.launched(job_id, attempt=2)).succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    # Nothing of the first attempt was ever submitted, so nothing of it is looked for.
    assert bench.launcher.calls["find"] == 0


async def test_a_job_that_reaches_no_cluster_is_cancelled_at_once(bench: Bench) -> None:
    soon(bench, poll_max_seconds=600.0)
    bench.launcher.closed = AWAY
    async with bench.worker():
        job_id = await submit(bench)
        await eventually(lambda: bench.launcher.calls["reach"], timeout=PATIENCE_SECONDS)
        await bench.cancel(job_id)
        assert await bench.ending(job_id) == (
            JobState.CANCELLED,
            TerminationReason.USER_CANCELLED,
            "Cancelled before it was launched.",
        )


async def test_a_job_whose_cluster_is_silent_is_cancelled_at_once(bench: Bench) -> None:
    bench.launcher.reach_gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await eventually(lambda: bench.launcher.calls["reach"], timeout=PATIENCE_SECONDS)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[2] == "Cancelled before it was launched."
    bench.launcher.reach_gate.set()
    assert bench.launcher.launches == []


async def test_such_a_job_is_cancelled_by_the_next_worker_too(bench: Bench) -> None:
    bench.launcher.closed = AWAY
    bench.launcher.unreachable = AWAY.what
    async with bench.worker():
        job_id = await submit(bench)
        await eventually(lambda: bench.launcher.calls["reach"], timeout=PATIENCE_SECONDS)
    await bench.cancel(job_id)
    async with bench.worker():
        assert (await bench.ending(job_id))[2] == "Cancelled before it was launched."


async def test_a_job_that_may_have_been_submitted_is_found_and_not_launched_again(
    bench: Bench,
) -> None:
    soon(bench, reach_timeout_seconds=0.1)
    async with bench.worker():
        bench.launcher.gate.clear()
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
    # Its worker died while it launched; the cluster has the job, and does not answer for now.
    bench.launcher.closed, bench.launcher.unreachable = AWAY, AWAY.what
    bench.launcher.gate.set()
    job = await bench.launched(job_id)
    async with bench.worker():
        await eventually(lambda: bench.launcher.calls["find"] > 5, timeout=PATIENCE_SECONDS)
        assert (await bench.run(job_id)).state_name == "Launching"
        bench.launcher.closed = bench.launcher.unreachable = None
        await bench.reaches(job_id, JobState.RUNNING)
        job.succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    assert len(bench.launcher.launches) == 1


async def test_such_a_job_stays_cancelling_until_its_cluster_answers_or_its_end_is_forced(
    bench: Bench,
) -> None:
    soon(bench, force_timeout_seconds=0.5)
    async with bench.worker():
        bench.launcher.gate.clear()
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
    bench.launcher.unreachable = AWAY.what
    bench.launcher.gate.set()
    async with bench.worker() as worker:
        await bench.cancel(job_id)
        await eventually(lambda: worker.is_asked_to_end(job_id), timeout=PATIENCE_SECONDS)
        looks = bench.launcher.calls["find"]
        await eventually(lambda: bench.launcher.calls["find"] > looks + 3, timeout=PATIENCE_SECONDS)
        assert (await bench.run(job_id)).state_name == "Cancelling"
        await force(bench, job_id)
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    key = names.launch_key(job_id, 1)
    assert text == (
        f"Cancelled by force, and its end is not confirmed: {AWAY.what}. A job named {key} may "
        "still run on slurm/me@there. Look with `ssh me@there squeue --me`, and end it with "
        "`scancel`."
    )


async def test_a_running_job_whose_cluster_is_gone_is_let_go_by_force(bench: Bench) -> None:
    soon(bench, force_timeout_seconds=0.5)
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        bench.launcher.unreachable = AWAY.what
        await force(bench, job_id)
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert f"Job {job.id or job.key} may still run on slurm/me@there." in text
    # A retry does not run beside it: the cluster is asked for the job that was left.
    bench.launcher.unreachable = None
    async with bench.worker():
        await bench.retry(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    assert len(bench.launcher.launches) == 1


async def test_a_cluster_that_hangs_does_not_hold_a_forced_cancel(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(bench, force_timeout_seconds=0.3)
    async with bench.worker():
        job_id = await submit(bench)
        await bench.reaches(job_id, JobState.RUNNING)

        async def hang(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        for call in ("observe", "observe_job", "cancel"):
            monkeypatch.setattr(bench.launcher, call, hang)
        await force(bench, job_id)
        assert "its end is not confirmed" in (await bench.ending(job_id))[2]


async def test_a_launch_that_hangs_is_let_go_by_force_and_ended_when_it_comes_up(
    bench: Bench,
) -> None:
    soon(bench, force_timeout_seconds=0.1)
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
        await force(bench, job_id)
        state, _, text = await bench.ending(job_id)
        assert state is JobState.CANCELLED
        assert "its launch had not ended" in text
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        await eventually(lambda: job.state is LauncherState.CANCELLED, timeout=PATIENCE_SECONDS)


async def test_a_forced_cancel_that_the_cluster_takes_waits_for_the_end(bench: Bench) -> None:
    soon(bench, force_timeout_seconds=0.1)
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        ends, job.end = job.end, lambda *_, **__: None
        await force(bench, job_id)
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        looks = bench.launcher.calls["observe"]
        await eventually(
            lambda: bench.launcher.calls["observe"] > looks + 5, timeout=PATIENCE_SECONDS
        )
        assert (await bench.run(job_id)).state_name == "Cancelling"
        job.end = ends
        job.end(LauncherState.CANCELLED)
        assert (await bench.ending(job_id))[2] == "Cancelled on request."


async def test_what_was_adopted_and_does_not_answer_is_let_go_by_force(bench: Bench) -> None:
    soon(bench, force_timeout_seconds=0.2)
    handle = JobHandle(cloud="slurm", cluster_name="me@there", launcher_job_id="17")
    bench.launcher.unreachable = AWAY.what
    async with bench.worker() as worker:
        job_id = await bench.submit_parameters(
            {"request": {"config_path": "", "client_cwd": "", **handle.model_dump()}}
        )
        await eventually(lambda: job_id in worker.active, timeout=PATIENCE_SECONDS)
        await eventually(lambda: bench.launcher.calls["observe"], timeout=PATIENCE_SECONDS)
        await force(bench, job_id)
        assert "Job 17 may still run on slurm/me@there" in (await bench.ending(job_id))[2]
