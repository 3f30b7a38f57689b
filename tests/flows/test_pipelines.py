"""Pipelines: one run whose steps are jobs, through the real flow, worker and server."""

from collections.abc import AsyncGenerator

import pytest

from flows.states import JobState, TerminationReason
from tests.flows.bench import Bench
from tests.flows.family import Family, family_on
from tests.support.stack import Stack

pytestmark = pytest.mark.engine


@pytest.fixture
async def family(bench: Bench, stack: Stack) -> AsyncGenerator[Family]:
    async with family_on(bench, stack.connection) as made:
        yield made


async def test_steps_run_in_order_with_what_others_left_and_on_their_conditions(
    family: Family,
) -> None:
    bench = family.bench
    steps = [
        family.step("train", output_dir="out/train"),
        family.step("evaluate", output_dir="out/eval", envs={"MODEL": "${train.output_dir}"}),
        family.step("promote", "exit 0", when="${evaluate.metrics.exact_match} > 0.9"),
        family.step("demote", "exit 0", when="${evaluate.metrics.exact_match} <= 0.9"),
        family.step("mourn", "exit 0", needs=["demote"]),
    ]
    async with bench.worker():
        parent = await family.submit(*steps)
        (await family.launched(parent, "train")).succeed()
        evaluate = await family.launched(parent, "evaluate")
        assert evaluate.config["envs"]["MODEL"] == str(bench.folder / "out/train")
        family.leave_metrics("out/eval", exact_match=0.95)
        evaluate.succeed()
        state, reason, text = await bench.ending(parent)
    assert (state, reason) == (JobState.SUCCEEDED, TerminationReason.COMPLETED)
    assert text == "3 of 5 jobs succeeded, 2 skipped (demote, mourn)."
    assert await family.states(parent) == dict.fromkeys(
        ["train", "evaluate", "promote"], "succeeded"
    )
    status = await family.jobs.status(str(parent))
    assert [(part.name, part.state, part.note) for part in status.parts] == [
        ("train", "succeeded", ""),
        ("evaluate", "succeeded", "exact_match 0.95"),
        ("promote", "succeeded", ""),
        ("demote", "skipped", "not ${evaluate.metrics.exact_match} <= 0.9"),
        ("mourn", "skipped", "demote was skipped"),
    ]
    assert (status.command, status.name) == ("pipeline", f"pipeline-{str(parent)[:8]}")


async def test_a_failed_step_stops_what_follows_and_a_retry_runs_only_that(
    family: Family,
) -> None:
    bench = family.bench
    steps = [
        family.step("prepare", "exit 0"),
        family.step("train", needs=["prepare"]),
        family.step("evaluate", "exit 0", needs=["train"]),
        family.step("mourn", "exit 0", when="${train.state} == 'failed'"),
        family.step("optional", "exit 1", may_fail=True),
    ]
    async with bench.worker():
        parent = await family.submit(*steps)
        (await family.launched(parent, "train")).fail(TerminationReason.OUT_OF_MEMORY, "Killed.")
        state, reason, text = await bench.ending(parent)
        assert (state, reason) == (JobState.FAILED, TerminationReason.OUT_OF_MEMORY)
        assert text == "train failed: Killed; 2 of 5 jobs succeeded."
        before = await family.children(parent)
        assert await family.states(parent) == {
            "prepare": "succeeded",
            "train": "failed",
            "mourn": "succeeded",
            "optional": "failed",
        }
        shown = (await family.jobs.status(str(parent))).parts
        assert [(p.state, p.note) for p in shown if p.name == "evaluate"] == [
            ("not run", "train failed")
        ]

        await family.jobs.retry(str(parent))
        (await family.launched(parent, "train", 2)).succeed()
        state, _, text = await bench.ending(parent)
    assert (state, text) == (JobState.SUCCEEDED, "4 of 5 jobs succeeded.")
    after = await family.children(parent)
    assert {part: after[part].id for part in before} == {p: run.id for p, run in before.items()}
    attempts = {part: run.labels["oumi.attempt"] for part, run in after.items()}
    assert attempts == {"prepare": 1, "train": 2, "mourn": 1, "optional": 2, "evaluate": 1}


async def test_a_step_retried_alone_takes_the_pipeline_on(family: Family) -> None:
    bench = family.bench
    steps = [
        family.step("one"),
        family.step("two"),
        family.step("after", "exit 0", needs=["one"]),
    ]
    async with bench.worker():
        parent = await family.submit(*steps)
        for part in ("one", "two"):
            (await family.launched(parent, part)).fail(TerminationReason.NONZERO_EXIT, "No.")
        assert (await bench.ending(parent))[0] is JobState.FAILED
        one = (await family.children(parent))["one"]
        status = await family.jobs.retry(str(one.id))
        assert status.part_of == str(parent)
        (await family.launched(parent, "one", 2)).succeed()
        state, _, text = await bench.ending(parent)
    assert (state, text) == (JobState.FAILED, "two failed: No; 2 of 3 jobs succeeded.")
    attempts = {k: run.labels["oumi.attempt"] for k, run in (await family.children(parent)).items()}
    assert attempts == {"one": 2, "two": 1, "after": 1}


async def test_a_pipeline_goes_on_where_it_was_after_its_worker_was_killed(
    family: Family,
) -> None:
    bench = family.bench
    each = family.step("train", each=[1, 2], envs={"SEED": "${item}"})
    async with bench.worker():
        parent = await family.submit(each, family.step("report", "exit 0", needs=["train"]))
        first = await family.launched(parent, "train[0]")
        second = await family.launched(parent, "train[1]")
        assert [job.config["envs"]["SEED"] for job in (first, second)] == ["1", "2"]
    first.succeed()
    async with bench.worker():
        second.succeed()
        state, _, text = await bench.ending(parent)
    assert (state, text) == (JobState.SUCCEEDED, "3 of 3 jobs succeeded.")
    assert len(bench.launcher.launches) == 3


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_cancelled_pipeline_ends_its_jobs_and_starts_no_more(
    family: Family, is_late: bool
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(
            family.step("train"),
            family.step("stubborn", "ignore"),
            family.step("after", needs=["train"]),
        )
        for part in ("train", "stubborn"):
            await family.launched(parent, part)
        if not is_late:
            await family.jobs.cancel(str(parent), force=True)
            assert (await bench.ending(parent))[0] is JobState.CANCELLED
    if is_late:
        await family.jobs.cancel(str(parent), force=True)
        async with bench.worker():
            assert (await bench.ending(parent))[0] is JobState.CANCELLED
    assert await family.states(parent) == {"train": "cancelled", "stubborn": "cancelled"}
    assert all(job.state.is_terminal for job in bench.launcher.jobs.values())
