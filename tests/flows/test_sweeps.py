"""Sweeps: one run whose trials are jobs, through the real flow, worker and server."""

import math
from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID

import pytest

from flows.core.errors import InvalidConfig
from flows.core.states import JobState, TerminationReason
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.flows.family import Family, family_on
from tests.support.fake_launcher import FakeJob
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture
async def family(bench: Bench, cold_stack: Stack) -> AsyncGenerator[Family]:
    async with family_on(bench, cold_stack.connection) as made:
        yield made


def says(job: FakeJob, folder: Path, *lines: str) -> None:
    """Have a job print lines."""
    job.log_path = folder / f"{job.key}.log"
    job.log_path.write_text("".join(f"{line}\n" for line in lines))


async def ends_with(family: Family, job: FakeJob, loss: float) -> None:
    """Have a job print its loss and succeed."""
    says(job, family.bench.folder, f'{{"loss": {loss}}}')
    await once_noticed(family, job)


async def once_noticed(family: Family, job: FakeJob) -> None:
    """Have a job succeed once it was noticed where it prints."""
    run_id = UUID(job.key.split("-")[1])

    async def noticed() -> bool:
        return "oumi.log_path" in (await family.bench.run(run_id)).labels

    await eventually(noticed, timeout=PATIENCE_SECONDS)
    job.succeed()


async def test_trials_run_some_at_once_and_are_ranked_whatever_becomes_of_one(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.LR": [1.0, 2.0, 3.0]}, concurrency=2
        )
        one, two = [await family.launched(parent, f"trial-{n}") for n in (1, 2)]
        assert one.config["envs"]["LR"] == "1.0"
        assert one.config["envs"]["OUMI_FLOWS_TRIAL"] == "trial-1"
        assert len(bench.launcher.jobs) == 2
        two.fail(TerminationReason.NONZERO_EXIT, "Diverged.")
        three = await family.launched(parent, "trial-3")
        await ends_with(family, three, 0.5)
        await ends_with(family, one, 0.7)
        state, _, text = await bench.ending(parent)
        assert state is JobState.SUCCEEDED
        assert text == (
            "Best is trial-3: loss 0.5 with envs.LR=3; 1 of 3 trials failed, 0 were stopped early."
        )
        status = await family.jobs.status(str(parent))
        assert status.summary.endswith(f"; {text}")
        parts = status.parts
        assert [(part.name, part.state, part.value, part.note) for part in parts] == [
            ("trial-3", "succeeded", 0.5, "envs.LR=3.0"),
            ("trial-1", "succeeded", 0.7, "envs.LR=1.0"),
            ("trial-2", "failed", None, "envs.LR=2.0, Diverged."),
        ]

        await family.jobs.retry(str(parent))
        again = await family.launched(parent, "trial-2", 2)
        await ends_with(family, again, 0.1)
        state, _, text = await bench.ending(parent)
    assert text.startswith("Best is trial-2: loss 0.1 with envs.LR=2; 0 of 3 trials failed")
    assert len(bench.launcher.launches) == 4


async def test_a_trial_that_diverged_is_named_and_never_wins(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.LR": [1.0, 2.0, 3.0]}, concurrency=3
        )
        nan, hidden, good = [await family.launched(parent, f"trial-{n}") for n in (1, 2, 3)]
        says(nan, bench.folder, *(f'{{"loss": {one}}}' for one in ("0.9", "0.5", "NaN", "NaN")))
        says(hidden, bench.folder, "{'loss': '0', 'grad_norm': 'nan', 'step': 10}")
        says(good, bench.folder, '{"loss": 0.7}')
        for job in (nan, hidden, good):
            await once_noticed(family, job)
        state, _, text = await bench.ending(parent)
        assert (state, text) == (
            JobState.SUCCEEDED,
            "Best is trial-3: loss 0.7 with envs.LR=3; 0 of 3 trials failed, "
            "0 were stopped early, 2 diverged (trial-1, trial-2).",
        )
        parts = (await family.jobs.status(str(parent))).parts
    assert [(part.name, part.state, part.value) for part in parts] == [
        ("trial-3", "succeeded", 0.7),
        ("trial-1", "succeeded", math.nan),
        ("trial-2", "succeeded", math.nan),
    ]
    assert parts[1].note == "envs.LR=1.0, its training diverged: its last loss is nan"
    assert parts[1].model_dump(mode="json")["value"] == "nan"


async def test_a_hopeless_trial_is_stopped_and_not_retried(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="optuna",
            metric="loss",
            space={"envs.LR": {"low": 1.0e-4, "high": 1.0e-1, "log": True}},
            trials=3,
            concurrency=1,
            early_stopping={"after_trials": 2, "after_steps": 10},
        )
        for number in (1, 2):
            job = await family.launched(parent, f"trial-{number}")
            says(job, bench.folder, '{"loss": 1.0, "step": 10}')
            await once_noticed(family, job)
        bad = await family.launched(parent, "trial-3")
        says(bad, bench.folder, "{'loss': '7.5', 'step': 10}")
        state, _, text = await bench.ending(parent)
        assert (state, text.split("; ")[1]) == (
            JobState.SUCCEEDED,
            "0 of 3 trials failed, 1 were stopped early.",
        )
    assert bad.cancels == 1
    parts = {part.name: part for part in (await family.jobs.status(str(parent))).parts}
    assert parts["trial-3"].state == "stopped"
    assert "its best was 7.5, the median of 2 is 1" in parts["trial-3"].note


async def test_a_trial_is_judged_by_the_metric_of_the_sweep_and_its_own_loss(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid",
            metric="accuracy",
            direction="maximize",
            space={"envs.A": [1, 2, 3]},
            concurrency=1,
            early_stopping={"after_trials": 1, "after_steps": 10},
        )
        first = await family.launched(parent, "trial-1")
        says(first, bench.folder, '{"loss": 0.1, "accuracy": 0.9, "step": 10}')
        await once_noticed(family, first)
        behind = await family.launched(parent, "trial-2")
        says(behind, bench.folder, '{"loss": 0.01, "accuracy": 0.4, "step": 10}')
        diverged = await family.launched(parent, "trial-3")
        says(diverged, bench.folder, '{"loss": NaN, "step": 10}')
        state, _, text = await bench.ending(parent)
    assert (state, text.split("; ")[1]) == (
        JobState.SUCCEEDED,
        "0 of 3 trials failed, 2 were stopped early.",
    )
    assert (behind.cancels, diverged.cancels) == (1, 1)
    parts = {part.name: part for part in (await family.jobs.status(str(parent))).parts}
    assert "its best was 0.4, the median of 1 is 0.9" in parts["trial-2"].note
    assert "at step 10 its loss was nan" in parts["trial-3"].note


async def test_a_sweep_goes_on_where_it_was_after_its_worker_was_killed(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="random",
            metric="loss",
            space={"envs.LR": {"low": 0.0, "high": 1.0}},
            trials=3,
            concurrency=1,
        )
        first = await family.launched(parent, "trial-1")
        await ends_with(family, first, 2.0)
        second = await family.launched(parent, "trial-2")
    async with bench.worker():
        await ends_with(family, second, 1.0)
        await ends_with(family, await family.launched(parent, "trial-3"), 3.0)
        state, _, text = await bench.ending(parent)
    assert (state, text.split(":")[0]) == (JobState.SUCCEEDED, "Best is trial-2")
    assert len(bench.launcher.launches) == 3
    drawn = {job.config["envs"]["LR"] for job in bench.launcher.jobs.values()}
    assert len(drawn) == 3


async def test_a_cancelled_sweep_ends_all_its_trials(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.A": [1, 2, 3, 4]}, concurrency=2
        )
        for number in (1, 2):
            await family.launched(parent, f"trial-{number}")
        await family.jobs.cancel(str(parent))
        assert (await bench.ending(parent))[0] is JobState.CANCELLED
    assert await family.states(parent) == {"trial-1": "cancelled", "trial-2": "cancelled"}


async def test_a_sweep_whose_trials_all_fail_ends_as_the_first_that_nobody_cancelled(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.A": [1, 2, 3]}, concurrency=3
        )
        jobs = [await family.launched(parent, f"trial-{n}") for n in (1, 2, 3)]
        await family.jobs.cancel(str((await family.children(parent))["trial-1"].id))
        jobs[1].fail(TerminationReason.OUT_OF_MEMORY, "Killed.")
        jobs[2].fail(TerminationReason.NONZERO_EXIT, "No.")
        state, reason, text = await bench.ending(parent)
    assert (state, reason) == (JobState.FAILED, TerminationReason.OUT_OF_MEMORY)
    assert text == (
        "No trial left the metric loss; trial-2: Killed; "
        "3 of 3 trials failed, 0 were stopped early."
    )


async def test_trials_that_left_no_metric_fail_a_sweep_and_are_not_run_again(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="acuracy", space={"envs.A": [1, 2]}, concurrency=2
        )
        for number in (1, 2):
            job = await family.launched(parent, f"trial-{number}")
            says(job, bench.folder, '{"accuracy": 0.5}')
            await once_noticed(family, job)
        state, reason, text = await bench.ending(parent)
        assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)
        assert text == (
            "No trial left the metric acuracy; trial-1: no metric acuracy; it has accuracy; "
            "2 of 2 trials failed, 0 were stopped early."
        )
        await family.jobs.retry(str(parent))
        assert await bench.ending(parent) == (state, reason, text)
    assert len(bench.launcher.launches) == 2


@pytest.mark.slow
async def test_a_trial_retried_after_its_sweep_was_cancelled_starts_no_other(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.A": [1, 2, 3, 4]}, concurrency=2
        )
        for number in (1, 2):
            await family.launched(parent, f"trial-{number}")
        await family.jobs.cancel(str(parent))
        assert (await bench.ending(parent))[0] is JobState.CANCELLED
        await bench.retry((await family.children(parent))["trial-2"].id)
        again = await family.launched(parent, "trial-2", 2)
        await family.goes_on(parent)
        await ends_with(family, again, 0.5)
        state, _, text = await bench.ending(parent)
        assert (state, text) == (
            JobState.CANCELLED,
            "Best is trial-2: loss 0.5 with envs.A=2; 1 of 2 trials failed, 0 were stopped early, "
            "2 were not started: retry the sweep to run them.",
        )
        assert len(bench.launcher.launches) == 3

        await family.jobs.retry(str(parent))
        for number, attempt in ((1, 2), (3, 1), (4, 1)):
            await ends_with(family, await family.launched(parent, f"trial-{number}", attempt), 1.0)
        assert (await bench.ending(parent))[0] is JobState.SUCCEEDED


@pytest.mark.slow
async def test_a_trial_called_hopeless_is_stopped_though_the_worker_died_before_it_was(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid",
            metric="loss",
            space={"envs.A": [1, 2]},
            concurrency=2,
            early_stopping={"after_trials": 2, "after_steps": 10},
        )
        good, bad = [await family.launched(parent, f"trial-{n}") for n in (1, 2)]
        second = (await family.children(parent))["trial-2"]
        await bench.reaches(second.id, JobState.RUNNING)
    # What the worker does first, of two things.
    await bench.client.update_flow_run_labels(second.id, {"oumi.stopped_early": "It was hopeless."})
    async with bench.worker():
        assert (await bench.ending(second.id))[0] is JobState.CANCELLED
        await ends_with(family, good, 0.5)
        _, _, text = await bench.ending(parent)
        assert text.endswith("0 of 2 trials failed, 1 were stopped early.")

        await family.jobs.retry(str(second.id))
        await ends_with(family, await family.launched(parent, "trial-2", 2), 0.1)
        assert (await bench.ending(parent))[2].startswith("Best is trial-2")
    assert bad.cancels == 1


async def test_a_sweep_stops_at_its_limit_and_says_so(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid",
            metric="loss",
            space={"envs.LR": [1.0, 2.0, 3.0, 4.0]},
            concurrency=2,
            timeout_seconds=3600,
            max_gpu_hours=2.0,
        )
        one, two = [await family.launched(parent, f"trial-{n}") for n in (1, 2)]
        await ends_with(family, one, 0.5)
        await ends_with(family, two, 0.7)
        # Together they took seconds, which leaves less than two hours, and more than one.
        three = await family.launched(parent, "trial-3")
        await ends_with(family, three, 0.4)
        four = await family.launched(parent, "trial-4")
        await ends_with(family, four, 0.6)
        assert (await bench.ending(parent))[0] is JobState.SUCCEEDED
        assert len(bench.launcher.jobs) == 4


async def test_a_sweep_starts_no_trial_that_its_limit_has_no_room_for(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid",
            metric="loss",
            space={"envs.LR": [1.0, 2.0, 3.0, 4.0]},
            concurrency=2,
            timeout_seconds=3600,
            max_gpu_hours=1.0,
        )
        one = await family.launched(parent, "trial-1")
        await ends_with(family, one, 0.5)
        state, reason, text = await bench.ending(parent)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OVER_BUDGET)
        assert text.startswith("Best is trial-1: loss 0.5 with envs.LR=1")
        assert "3 were not started. The limit of the whole has 0." in text
        assert "left of 1 GPU-hours" in text
        assert len(bench.launcher.jobs) == 1


async def test_a_sweep_of_a_limited_number_of_jobs_starts_no_more(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.sweep(
            search="grid", metric="loss", space={"envs.LR": [1.0, 2.0, 3.0]}, max_jobs=2
        )
        for number in (1, 2):
            await ends_with(family, await family.launched(parent, f"trial-{number}"), 0.5)
        _, reason, text = await bench.ending(parent)
        assert reason is TerminationReason.OVER_BUDGET
        assert "1 were not started. The limit of the whole has 0 of 2 jobs left" in text


async def test_a_limit_of_a_sweep_needs_to_know_what_a_trial_may_take(family: Family) -> None:
    with pytest.raises(InvalidConfig, match="Give the job timeout_seconds"):
        await family.sweep(
            search="grid", metric="loss", space={"envs.LR": [1.0, 2.0]}, max_gpu_hours=1.0
        )
