"""Questions to the worker: a value or an error of ours comes back, through the API alone."""

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.core.errors import CloudUnavailable, EngineUnavailable, InternalError, OperationTimeout
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.worker_calls import WorkerCalls
from tests.flows import questions
from tests.flows.bench import PATIENCE_SECONDS, Bench, Running
from tests.flows.questions import Doubled
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture
async def calls(bench: Bench, cold_stack: Stack) -> AsyncGenerator[WorkerCalls]:
    deployment_id = await bench.client.create_deployment(
        flow_id=await bench.client.create_flow_from_name("double"),
        name=bench.pool,
        work_pool_name=bench.pool,
        entrypoint="tests.flows.questions.double",
    )
    # No engine of ours keeps the workers of the bench's pool up.
    elsewhere = Running(cold_stack.connection.model_copy(update={"embedded": False}))
    gateway = PrefectGateway(elsewhere, timeout_seconds=30, work_pool=bench.pool)
    yield WorkerCalls(gateway)
    await gateway.aclose()
    await bench.client.delete_deployment(deployment_id)


async def _double(calls: WorkerCalls, number: int, timeout: float = PATIENCE_SECONDS) -> Doubled:
    return await calls.call("double", {"number": number}, Doubled, timeout_seconds=timeout)


async def test_the_workers_answer_comes_back_as_the_value_it_was(
    bench: Bench, calls: WorkerCalls
) -> None:
    async with bench.worker():
        assert await _double(calls, 21) == Doubled(summary="Twice 21.", number=42)


async def test_an_error_of_ours_comes_back_as_the_same_error(
    bench: Bench, calls: WorkerCalls
) -> None:
    async with bench.worker():
        with pytest.raises(CloudUnavailable) as raised:
            await _double(calls, -1)
    assert str(raised.value) == "CLOUD_UNAVAILABLE: There is no cloud -1. Use another. Any will do."


async def test_a_defect_in_the_worker_is_an_internal_error_and_ends_nothing_else(
    bench: Bench, calls: WorkerCalls
) -> None:
    async with bench.worker():
        with pytest.raises(InternalError, match="a defect"):
            await _double(calls, 0)
        assert (await _double(calls, 1)).number == 2


async def test_a_question_is_not_held_up_by_jobs_that_wait_for_a_slot(
    bench: Bench, calls: WorkerCalls
) -> None:
    async with bench.worker():
        jobs = [await bench.submit("sleep 600") for _ in range(bench.settings.local_slots or 0)]
        queued = await bench.submit("exit 0")
        await bench.reaches(queued, JobState.QUEUED)
        assert (await _double(calls, 3)).number == 6
        for job in (*jobs, queued):
            await bench.cancel(job)
            await bench.ending(job)


async def test_a_question_nobody_waits_for_any_more_is_cancelled(
    bench: Bench, calls: WorkerCalls
) -> None:
    async with bench.worker():
        with pytest.raises(OperationTimeout):
            await _double(calls, 1001, timeout=3.0)
        await eventually(lambda: _is_cancelled(bench), timeout=PATIENCE_SECONDS)


async def test_a_late_answer_is_had_by_whoever_asks_again(
    bench: Bench, calls: WorkerCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    monkeypatch.setattr(questions, "gate", gate)

    async def ask(timeout: float) -> Doubled:
        return await calls.call_again(
            "double", {"number": 500}, Doubled, timeout_seconds=timeout, name="double 500"
        )

    async with bench.worker():
        with pytest.raises(OperationTimeout, match="and continues"):
            await ask(3.0)
        with pytest.raises(OperationTimeout):
            await ask(0.1)
        gate.set()
        (run,) = await eventually(lambda: _ended(bench, 500), timeout=PATIENCE_SECONDS)
        assert (await ask(PATIENCE_SECONDS)).number == 1000
        assert [one.id for one in await _ended(bench, 500)] == [run.id]
        # The question is asked again.
        assert (await ask(PATIENCE_SECONDS)).number == 1000
        assert len(await _ended(bench, 500)) == 2


async def test_without_a_worker_it_says_that_none_took_the_question_up(
    calls: WorkerCalls,
) -> None:
    began = time.monotonic()
    for timeout in (0.5, 25.0):
        with pytest.raises(EngineUnavailable, match="No worker took double"):
            await _double(calls, 1, timeout=timeout)
    assert time.monotonic() - began < 20


async def _ended(bench: Bench, number: int) -> list[FlowRun]:
    runs = await bench.client.read_flow_runs(
        flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[f"double {number}"])),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[bench.pool])),
    )
    return [run for run in runs if run.state and run.state.is_final()]


async def _is_cancelled(bench: Bench) -> bool:
    runs = await bench.client.read_flow_runs(sort="START_TIME_DESC", limit=5)  # type: ignore[arg-type]
    found = [run for run in runs if run.parameters == {"number": 1001}]
    return bool(found) and found[0].state is not None and found[0].state.is_cancelled()


async def test_the_run_of_a_question_is_removed_some_time_after_it_ended(
    bench: Bench, calls: WorkerCalls
) -> None:
    bench.wait(tidy=1.0, answers_kept=3.0)
    questions_asked = FlowRunFilter(tags=FlowRunFilterTags(all_=["oumi-call"]))

    async def left() -> list[FlowRun]:
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[bench.pool]))
        return await bench.client.read_flow_runs(
            flow_run_filter=questions_asked, work_pool_filter=pool
        )

    async def none_is_left() -> bool:
        return not await left()

    job_id = await bench.submit("exit 0")
    await bench.set_state(job_id, StateType.COMPLETED)
    async with bench.worker():
        assert (await _double(calls, 21)).number == 42
        assert await left()
        await eventually(none_is_left, timeout=PATIENCE_SECONDS)
        assert (await bench.run(job_id)).id == job_id
