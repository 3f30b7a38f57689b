"""Runs of a schedule that are due before an earlier one has ended."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.states import Scheduled

from flows.core.names import launch_key
from flows.core.states import JobState, TerminationReason
from flows.worker.schedule_overlap import Overlaps
from tests.flows.bench import Bench

pytestmark = pytest.mark.engine


async def fire(bench: Bench, overlap: str, *, seconds_ago: float, run: str = "hold") -> UUID:
    """A run as a schedule makes it, whose time has come a while ago."""
    config = bench.folder / "scheduled.yaml"
    config.write_text(f"name: bench\nresources: {{cloud: local}}\nrun: {json.dumps(run)}\n")
    due = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    made = await bench.client.create_flow_run_from_deployment(
        bench.deployment_id,
        parameters={"request": {"config_path": str(config), "client_cwd": str(bench.folder)}},
        state=Scheduled(scheduled_time=due),
        name="fuzzy-fox",
    )
    labels: dict[str, Any] = {"oumi.overlap": overlap, "oumi.run_name": "nightly"}
    await bench.client.update_flow_run_labels(made.id, labels)
    return made.id


async def name_of(bench: Bench, job_id: UUID) -> str:
    due = (await bench.run(job_id)).expected_start_time
    return f"nightly-{due:%Y%m%dT%H%M%SZ}-{str(job_id)[:8]}"


async def test_a_run_that_is_due_too_early_is_skipped_and_says_why(bench: Bench) -> None:
    first, second, third = [await fire(bench, "skip", seconds_ago=ago) for ago in (30, 20, 10)]
    async with bench.worker():
        job = await bench.launched(first)
        for late in (second, third):
            assert await bench.ending(late) == (
                JobState.CANCELLED,
                TerminationReason.SKIPPED,
                f"{await name_of(bench, first)} had not ended.",
            )
            assert (await bench.run(late)).name == await name_of(bench, late)
        job.succeed()
        assert (await bench.ending(first))[1] is TerminationReason.COMPLETED
        # Once it has ended the next one starts.
        fourth = await fire(bench, "skip", seconds_ago=0, run="exit 0")
        assert (await bench.ending(fourth))[1] is TerminationReason.COMPLETED
    assert launch_key(second, 1) not in bench.launcher.jobs


async def test_runs_that_queue_start_one_after_the_other(bench: Bench) -> None:
    first, second = [await fire(bench, "queue", seconds_ago=ago) for ago in (20, 10)]
    async with bench.worker():
        job = await bench.launched(first)
        waiting = await bench.reaches(second, JobState.QUEUED)
        assert waiting.state is not None
        assert launch_key(second, 1) not in bench.launcher.jobs
        job.succeed()
        (await bench.launched(second)).succeed()
        assert (await bench.ending(second))[1] is TerminationReason.COMPLETED
        ended = (await bench.run(first)).end_time
        started = (await bench.run(second)).start_time
    assert ended is not None
    assert started is not None
    assert ended <= started


async def test_runs_that_may_overlap_do(bench: Bench) -> None:
    runs = [await fire(bench, "allow", seconds_ago=ago) for ago in (20, 10)]
    async with bench.worker():
        for run in runs:
            await bench.launched(run)
        for run in runs:
            bench.launcher.jobs[launch_key(run, 1)].succeed()
            assert (await bench.ending(run))[1] is TerminationReason.COMPLETED


async def test_a_queue_has_an_end(bench: Bench) -> None:
    first, second, third = [await fire(bench, "queue", seconds_ago=ago) for ago in (30, 20, 10)]
    async with bench.worker(longest_queue=1):
        job = await bench.launched(first)
        state, reason, text = await bench.ending(third)
        assert (state, reason) == (JobState.CANCELLED, TerminationReason.SKIPPED)
        assert text.endswith("1 runs waited for it already.")
        job.succeed()
        (await bench.launched(second)).succeed()
        assert (await bench.ending(second))[1] is TerminationReason.COMPLETED


async def test_every_worker_holds_back_the_same_runs(bench: Bench) -> None:
    ids = [await fire(bench, "skip", seconds_ago=ago) for ago in (30, 20, 10)]
    due = [await bench.run(job_id) for job_id in ids]
    for seen in (due, due[1:], due[2:]):
        held = await Overlaps(bench.client).find_held(seen, active=[])
        assert {one.run.id for one in held} == {run.id for run in seen} - {ids[0]}


async def test_a_new_worker_knows_what_the_last_one_has_started(bench: Bench) -> None:
    first = await fire(bench, "skip", seconds_ago=10)
    async with bench.worker():
        job = await bench.launched(first)
    second = await fire(bench, "skip", seconds_ago=5)
    async with bench.worker():
        assert (await bench.ending(second))[1] is TerminationReason.SKIPPED
        job.succeed()
        await bench.ending(first)


async def test_who_retries_a_skipped_run_gets_it(bench: Bench) -> None:
    first, second = [await fire(bench, "skip", seconds_ago=ago) for ago in (20, 10)]
    async with bench.worker():
        await bench.launched(first)
        await bench.ending(second)
        await bench.retry(second)
        await bench.launched(second)
        for run in (first, second):
            (await bench.launched(run)).succeed()
            assert (await bench.ending(run))[1] is TerminationReason.COMPLETED
