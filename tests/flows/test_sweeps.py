"""Sweeps: one run whose trials are jobs, through the real flow, worker and server."""

from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import UUID

import pytest

from flows.states import JobState, TerminationReason
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.flows.family import Family, family_on
from tests.support.fake_launcher import FakeJob
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture
async def family(bench: Bench, stack: Stack) -> AsyncGenerator[Family]:
    async with family_on(bench, stack.connection) as made:
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
