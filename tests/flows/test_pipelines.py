"""Pipelines: one run whose steps are jobs, through the real flow, worker and server."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import httpx
import pytest
from prefect.client.schemas.objects import StateType

from flows.core.states import JobState, TerminationReason
from flows.families.parent import Parent
from flows.job.run_record import RunRecord
from mcp_server.services.jobs.job_filter import JobFilter
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.flows.family import Family, family_on
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture
async def family(bench: Bench, cold_stack: Stack) -> AsyncGenerator[Family]:
    async with family_on(bench, cold_stack.connection) as made:
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


async def test_neither_an_earlier_runs_numbers_nor_a_diverged_training_promotes(
    family: Family,
) -> None:
    bench = family.bench
    for folder in ("train", "eval"):
        metrics = bench.folder / "out" / folder / "metrics_rank0000.jsonl"
        metrics.parent.mkdir(parents=True)
        metrics.write_text('{"eval_loss": 0.1, "step": 9}\n')
    family.leave_metrics("out/eval", exact_match=0.99)  # last night's
    steps = [
        family.step("train", output_dir="out/train"),
        family.step("evaluate", output_dir="out/eval", may_fail=True),
        family.step("promote", "exit 0", when="${train.metrics.eval_loss} < 1"),
        family.step(
            "praise", "exit 0", when="${evaluate.metrics.exact_match} > 0.9", may_fail=True
        ),
    ]
    async with bench.worker():
        parent = await family.submit(*steps)
        train = await family.launched(parent, "train")
        with (bench.folder / "out/train/metrics_rank0000.jsonl").open("a") as file:
            file.write('{"eval_loss": 0.5, "step": 1}\n{"loss": NaN, "step": 2}\n')
        train.succeed()
        (await family.launched(parent, "evaluate")).succeed()
        state, _, text = await bench.ending(parent)
    assert (state, text) == (
        JobState.SUCCEEDED,
        "2 of 4 jobs succeeded, 1 skipped (promote), 1 diverged (train).",
    )
    parts = {part.name: part for part in (await family.jobs.status(str(parent))).parts}
    assert parts["train"].note == "eval_loss 0.5, its training diverged: its last loss is nan"
    assert "evaluate left no metric exact_match; it has none" in parts["praise"].note


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


async def test_a_step_that_cannot_be_started_fails_and_what_needs_it_does_not_run(
    family: Family,
) -> None:
    bench = family.bench
    steps = [
        family.step("prepare"),
        family.step("train", needs=["prepare"]),
        family.step("evaluate", "exit 0", needs=["train"]),
    ]
    async with bench.worker():
        parent = await family.submit(*steps)
        prepare = await family.launched(parent, "prepare")
        # As on a machine that has no copy of what another one submitted.
        copies = list(bench.settings.snapshots_dir.glob("*"))
        for copy in copies:
            copy.unlink()
        (bench.folder / "train.yaml").write_text("name: changed\nrun: exit 0\n")
        prepare.succeed()
        state, reason, text = await bench.ending(parent)
    assert copies
    assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)
    assert "train failed: " in text
    assert "changed after the job was submitted" in text
    parts = (await family.jobs.status(str(parent))).parts
    assert [(part.name, part.state) for part in parts] == [
        ("prepare", "succeeded"),
        ("train", "failed"),
        ("evaluate", "not run"),
    ]
    assert parts[2].note == "train failed"


@pytest.mark.slow
@pytest.mark.parametrize("by_ui", [False, True])
async def test_a_step_retried_alone_takes_the_pipeline_on(family: Family, by_ui: bool) -> None:
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
        if by_ui:
            await bench.retry(one.id)
        else:
            assert (await family.jobs.retry(str(one.id))).part_of == str(parent)
        await family.goes_on(parent)
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


@pytest.mark.slow
async def test_a_step_retried_while_its_pipeline_concludes_takes_it_on(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, concludes, goes_on = family.bench, asyncio.Event(), asyncio.Event()
    conclude = Parent.conclude

    async def late(parent: Parent, outcome: object) -> object:
        concludes.set()
        await goes_on.wait()
        return await conclude(parent, outcome)  # type: ignore[arg-type]

    monkeypatch.setattr(Parent, "conclude", late)
    async with bench.worker():
        parent = await family.submit(
            family.step("one"), family.step("after", "exit 0", needs=["one"])
        )
        (await family.launched(parent, "one")).fail(TerminationReason.NONZERO_EXIT, "No.")
        await concludes.wait()
        await bench.retry((await family.children(parent))["one"].id)
        again = await family.launched(parent, "one", 2)
        goes_on.set()
        await eventually(lambda: has_been(bench, parent, "Failed"), timeout=PATIENCE_SECONDS)
        await family.goes_on(parent)
        again.succeed()
        assert (await bench.ending(parent))[2] == "2 of 2 jobs succeeded."


async def has_been(bench: Bench, run_id: UUID, *states: str) -> bool:
    return set(states) <= set(await bench.states(run_id))


@pytest.mark.slow
async def test_a_step_retried_after_its_pipeline_was_cancelled_starts_only_what_follows_it(
    family: Family,
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(
            family.step("one"),
            family.step("after", "exit 0", needs=["one"]),
            family.step("two", may_fail=True),
            family.step("mourn", "exit 0", when="${two.state} == 'cancelled'"),
        )
        for part in ("one", "two"):
            await family.launched(parent, part)
        await bench.cancel(parent)
        assert (await bench.ending(parent))[0] is JobState.CANCELLED
        await bench.retry((await family.children(parent))["one"].id)
        again = await family.launched(parent, "one", 2)
        await family.goes_on(parent)
        again.succeed()
        state, _, text = await bench.ending(parent)
        assert state is JobState.CANCELLED
        assert text == (
            "2 of 4 jobs succeeded, 1 not started (mourn): retry the pipeline to run them."
        )
        assert set(await family.states(parent)) == {"one", "after", "two"}

        await family.jobs.retry(str(parent))
        (await family.launched(parent, "two", 2)).fail(TerminationReason.NONZERO_EXIT, "No.")
        assert (await bench.ending(parent))[0] is JobState.SUCCEEDED


@pytest.mark.parametrize("kind", [StateType.CANCELLED, StateType.FAILED, StateType.COMPLETED])
async def test_a_terminal_state_set_over_a_running_pipeline_ends_its_jobs_and_stays(
    family: Family, kind: StateType
) -> None:
    bench = family.bench
    async with bench.worker() as worker:
        parent = await family.submit(
            family.step("train"), family.step("after", "exit 0", needs=["train"])
        )
        job = await family.launched(parent, "train")
        await bench.set_state(parent, kind, "Decided")
        await eventually(lambda: job.cancels, timeout=PATIENCE_SECONDS)
        await bench.let_go(worker)
        assert (await bench.states(parent))[-2:] == ["Running", "Decided"]
    assert await family.states(parent) == {"train": "cancelled"}


@pytest.mark.parametrize("kind", [StateType.CANCELLING, StateType.CANCELLED])
async def test_a_pipeline_cancelled_while_it_waits_for_its_retry_ends_its_jobs(
    family: Family, kind: StateType
) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(family.step("train"))
        job = await family.launched(parent, "train")
        train = (await family.children(parent))["train"].id
        await bench.reaches(train, JobState.RUNNING)
    await bench.retry(parent)
    await bench.set_state(parent, kind)
    async with bench.worker() as worker:
        assert (await bench.ending(train))[0] is JobState.CANCELLED
        assert (await bench.ending(parent))[0] is JobState.CANCELLED
        await bench.let_go(worker)
    assert job.cancels == 1


async def test_a_pipeline_taken_up_while_the_server_is_out_goes_on(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, reload = family.bench, RunRecord.reload
    async with bench.worker():
        parent = await family.submit(family.step("train"))
        job = await family.launched(parent, "train")
    refused = 0

    async def out(record: RunRecord) -> None:
        nonlocal refused
        if record.run.id == parent and refused < 3:
            refused += 1
            raise httpx.ConnectError("connection refused")
        await reload(record)

    monkeypatch.setattr(RunRecord, "reload", out)
    async with bench.worker():
        await eventually(lambda: refused == 3, timeout=PATIENCE_SECONDS)
        job.succeed()
        assert (await bench.ending(parent))[0] is JobState.SUCCEEDED


async def test_an_error_in_the_execution_of_a_pipeline_does_not_end_it(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, shown = family.bench, Parent.show
    raised = asyncio.Event()

    async def show(*args: object, **kwargs: object) -> None:
        if not raised.is_set():
            raised.set()
            raise RuntimeError("an unexpected error")
        await shown(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Parent, "show", show)
    async with bench.worker():
        parent = await family.submit(family.step("train"))
        job = await family.launched(parent, "train")
        await raised.wait()
        job.succeed()
        assert (await bench.ending(parent))[0] is JobState.SUCCEEDED
    assert len(bench.launcher.launches) == 1


async def test_one_step_cancelled_leaves_the_others(family: Family) -> None:
    bench = family.bench
    async with bench.worker():
        parent = await family.submit(
            family.step("one"),
            family.step("after", "exit 0", needs=["one"]),
            family.step("other"),
        )
        await family.launched(parent, "one")
        other = await family.launched(parent, "other")
        one = (await family.children(parent))["one"].id
        await family.jobs.cancel(str(one))
        assert (await bench.ending(one))[0] is JobState.CANCELLED
        assert other.cancels == 0
        other.succeed()
        state, reason, text = await bench.ending(parent)
    assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert text == "one failed: Cancelled on request; 1 of 3 jobs succeeded."
    assert await family.states(parent) == {"one": "cancelled", "other": "succeeded"}


async def test_the_cost_of_a_pipeline_is_that_of_its_jobs(family: Family) -> None:
    bench = family.bench
    bench.launcher.hourly_cost = 3600.0
    async with bench.worker():
        parent = await family.submit(
            family.step("first", cloud="gcp"), family.step("second", cloud="gcp")
        )
        for name in ("first", "second"):
            job = await family.launched(parent, name)
            child = (await family.children(parent))[name]
            await eventually(lambda run=child.id: has_price(bench, run), timeout=PATIENCE_SECONDS)
            job.succeed()
        await bench.ending(parent)
    status = await family.jobs.status(str(parent))
    children = [await family.jobs.status(str(part.job_id)) for part in status.parts]
    costs = [child.duration_seconds for child in children]
    assert [part.cost for part in status.parts] == pytest.approx(costs, abs=0.01)
    assert status.cost == pytest.approx(sum(cost or 0 for cost in costs), abs=0.02)
    listed = await family.jobs.list(JobFilter.read(name=status.name))
    assert [row.cost for row in listed.jobs] == [status.cost]


async def has_price(bench: Bench, run: UUID) -> bool:
    return (await bench.run(run)).labels.get("oumi.hourly_price") == 3600.0
