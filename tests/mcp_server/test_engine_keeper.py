"""Bringing the engine up in the background."""

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from flows.core.errors import ConfigNotFound, EngineUnavailable
from mcp_server.engine_keeper import EngineKeeper
from tests.mcp_server.prefect_stub import PrefectServer
from tests.support.waiting import eventually

Report = Callable[[str], None]


class SlowEngine:
    """An engine that comes up when it is let."""

    def __init__(self) -> None:
        self.looks = 0
        self.let_up = threading.Event()
        self.server = PrefectServer(port=1, auth_string="a:b")

    def ensure(self, *, report: Report, after_down: bool) -> PrefectServer:
        self.looks += 1
        report("starting the Prefect server")
        assert self.let_up.wait(timeout=20)
        return self.server


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


async def test_callers_at_once_wait_for_one_look(engine: SlowEngine) -> None:
    keeper = EngineKeeper(engine.ensure, timeout_seconds=10)
    waiting = [asyncio.create_task(keeper.connection()) for _ in range(5)]
    await eventually(lambda: engine.looks)
    engine.let_up.set()
    assert [await task for task in waiting] == [engine.server] * 5
    assert engine.looks == 1
    assert await keeper.connection() is engine.server
    assert engine.looks == 1


async def test_an_engine_that_takes_too_long_is_unavailable_and_still_comes_up(
    engine: SlowEngine,
) -> None:
    keeper = EngineKeeper(engine.ensure, timeout_seconds=0.1)
    with pytest.raises(EngineUnavailable, match="starting the Prefect server") as caught:
        await keeper.connection()
    assert "oumi-flows doctor" in str(caught.value)
    engine.let_up.set()
    await eventually(lambda: keeper.is_up)
    assert engine.looks == 1


async def test_a_caller_that_gives_up_does_not_end_the_look(engine: SlowEngine) -> None:
    keeper = EngineKeeper(engine.ensure, timeout_seconds=10)
    impatient = asyncio.create_task(keeper.connection())
    patient = asyncio.create_task(keeper.connection())
    await eventually(lambda: engine.looks)
    impatient.cancel()
    engine.let_up.set()
    assert await patient is engine.server


async def test_the_client_learns_what_the_engine_does(engine: SlowEngine) -> None:
    keeper = EngineKeeper(engine.ensure, timeout_seconds=10)
    phases: list[str] = []

    async def tell(phase: str) -> None:
        phases.append(phase)

    telling = asyncio.create_task(keeper.tell_until_up(tell))
    looking = asyncio.create_task(keeper.connection())
    await eventually(lambda: "starting the Prefect server" in phases)
    engine.let_up.set()
    await looking
    await asyncio.wait_for(telling, timeout=5)


async def test_a_failed_look_is_reported_to_waiting_calls_and_repeated_later() -> None:
    answers: list[Exception | PrefectServer] = [
        ConfigNotFound("prefect.yaml is missing", "Install it again"),
        OSError(28, "No space left on device"),
        AttributeError("no such thing"),
        PrefectServer(port=1, auth_string="a:b"),
    ]

    def ensure(*, report: Report, after_down: bool) -> PrefectServer:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    keeper = EngineKeeper(ensure, timeout_seconds=10)
    for text in (
        "prefect.yaml is missing. Install it again",
        "No space left on device",
        "AttributeError: no such thing",
    ):
        with pytest.raises(EngineUnavailable, match=text):
            await keeper.connection()
    assert (await keeper.connection()).api_url.endswith("/api")


async def test_the_keeper_looks_again_and_again(engine: SlowEngine) -> None:
    engine.let_up.set()
    keeper = EngineKeeper(engine.ensure, timeout_seconds=10, check_seconds=0.01)
    keeping = asyncio.create_task(keeper.keep())
    await eventually(lambda: engine.looks >= 3)
    keeping.cancel()
    keeper.close()


async def test_what_goes_wrong_in_a_look_does_not_end_the_keeper() -> None:
    looks: list[bool] = []

    def ensure(*, report: Report, after_down: bool) -> PrefectServer:
        looks.append(after_down)
        raise AttributeError("'list' object has no attribute 'get'")

    keeper = EngineKeeper(ensure, timeout_seconds=10, check_seconds=0.01)
    keeping = asyncio.create_task(keeper.keep())
    await eventually(lambda: len(looks) >= 3)
    assert not keeping.done()
    keeping.cancel()
    keeper.close()


async def test_a_call_that_meets_a_look_in_the_background_starts_what_a_person_stopped() -> None:
    server = PrefectServer(port=1, auth_string="a:b")
    looks: list[bool] = []
    let_go = threading.Event()

    def ensure(*, report: Report, after_down: bool) -> PrefectServer:
        looks.append(after_down)
        assert let_go.wait(timeout=20)
        if not after_down:
            raise EngineUnavailable("The engine was stopped", "Start it")
        return server

    keeper = EngineKeeper(ensure, timeout_seconds=10)
    background = asyncio.create_task(keeper.revive(after_down=False))
    await eventually(lambda: looks)
    calls = [asyncio.create_task(keeper.revive()) for _ in range(3)]
    await asyncio.sleep(0)
    let_go.set()
    assert [await call for call in calls] == [server] * 3
    assert looks == [False, True]
    with pytest.raises(EngineUnavailable, match="was stopped"):
        await background


async def test_an_engine_that_a_person_stopped_comes_back_for_a_call_only() -> None:
    server = PrefectServer(port=1, auth_string="a:b")
    looks: list[bool] = []

    def ensure(*, report: Report, after_down: bool) -> PrefectServer:
        looks.append(after_down)
        if not after_down:
            raise EngineUnavailable("The engine was stopped", "Start it")
        return server

    keeper = EngineKeeper(ensure, timeout_seconds=10, check_seconds=0.01)
    keeping = asyncio.create_task(keeper.keep())
    await eventually(lambda: len(looks) >= 3)
    assert looks[:3] == [True, False, False]
    assert not keeper.is_up
    assert await keeper.revive() is server
    keeping.cancel()
    keeper.close()


async def test_a_failed_look_that_no_call_waits_for_any_more_is_no_error_of_the_process(
    engine: SlowEngine,
) -> None:
    def ensure(*, report: Report, after_down: bool) -> PrefectServer:
        engine.ensure(report=report, after_down=after_down)
        raise EngineUnavailable("There is no engine", "Start one")

    errors: list[object] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    others = asyncio.all_tasks()
    call = asyncio.create_task(EngineKeeper(ensure, timeout_seconds=10).connection())
    await eventually(lambda: engine.looks)
    call.cancel()
    engine.let_up.set()
    await asyncio.wait(asyncio.all_tasks() - others, timeout=20)
    del call
    gc.collect()
    loop.set_exception_handler(before)
    assert errors == []
