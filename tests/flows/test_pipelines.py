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
    assert status.command == "pipeline"
