"""Questions to the worker of this machine, without a flow run."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.settings import PREFECT_API_URL

from flows.core.errors import CloudUnavailable, EngineUnavailable, OperationTimeout
from flows.core.settings import Settings
from flows.worker.direct_answers import DirectAnswers
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.direct_questions import DirectQuestions
from mcp_server.services.worker_calls import WorkerCalls
from tests.flows.questions import Doubled
from tests.support.waiting import eventually

FLOWS = {"double": "tests.flows.questions.double"}
POOL = "a pool"


class Elsewhere:
    """An engine whose server no test asks."""

    def __init__(self, *, embedded: bool = True, up: bool = True) -> None:
        self._connection = SimpleNamespace(
            api_url=PREFECT_API_URL.value() or "", embedded=embedded, headers={}, ui_url=None
        )
        self._up = up

    async def connection(self) -> Any:
        if not self._up:
            await asyncio.Event().wait()
        return self._connection

    revive = connection


class NoRuns(PrefectGateway):
    """An API that must not be asked."""

    async def create_run(self, **_: Any) -> Any:
        raise EngineUnavailable("A flow run asked", "Do not")


@pytest.fixture(params=["short", "a folder whose path is too long for a socket" * 3])
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    made = Settings(home=tmp_path / request.param)
    made.engine_dir.mkdir(parents=True)
    return made


@asynccontextmanager
async def worker(
    settings: Settings, *, is_ready: Callable[[], bool] = lambda: True
) -> AsyncGenerator[None]:
    answers = DirectAnswers(settings, POOL, is_ready=is_ready, flows=FLOWS)
    serving = asyncio.create_task(answers.serve())
    try:
        await eventually(lambda: any(settings.engine_dir.iterdir()) or serving.done())
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        assert list(settings.engine_dir.iterdir()) == []


def calls(
    settings: Settings, *, patience: float | None = 0.2, engine: Elsewhere | None = None
) -> WorkerCalls:
    gateway = NoRuns(cast("Any", engine or Elsewhere()), timeout_seconds=5, work_pool=POOL)
    direct = DirectQuestions(gateway, settings.engine_dir, patience_seconds=patience, flows=FLOWS)
    return WorkerCalls(gateway, direct=direct)


async def double(calls: WorkerCalls, number: Any, *, timeout: float = 30) -> Doubled:
    return await calls.call("double", {"number": number}, Doubled, timeout_seconds=timeout)


async def test_the_answer_and_our_errors_come_back_as_of_a_flow_run(settings: Settings) -> None:
    async with worker(settings):
        asked = calls(settings)
        assert await double(asked, 21) == Doubled(summary="Twice 21.", number=42)
        with pytest.raises(CloudUnavailable) as raised:
            await double(asked, -1)
        assert (raised.value.what, raised.value.next_step) == (
            "There is no cloud -1",
            "Use another. Any will do.",
        )


async def test_many_ask_at_once(settings: Settings) -> None:
    async with worker(settings):
        asked = calls(settings)
        found = await asyncio.gather(*(double(asked, number) for number in range(1, 60)))
    assert [one.number for one in found] == [2 * number for number in range(1, 60)]


@pytest.mark.parametrize("number", [0, "no number"])
async def test_a_flow_run_asks_again_what_failed(settings: Settings, number: Any) -> None:
    async with worker(settings):
        with pytest.raises(EngineUnavailable, match="A flow run asked"):
            await double(calls(settings), number)


async def test_a_worker_that_does_not_answer_in_time(settings: Settings) -> None:
    async with worker(settings):
        with pytest.raises(OperationTimeout, match=r"did not answer within 0\.1 s"):
            await double(calls(settings), 1001, timeout=0.1)


async def test_while_the_worker_loads_the_caller_hears_so_soon(settings: Settings) -> None:
    async with worker(settings, is_ready=lambda: False):
        began = time.monotonic()
        with pytest.raises(EngineUnavailable, match="still loading Oumi") as raised:
            await double(calls(settings), 21)
        assert time.monotonic() - began < 10
        assert "Call again" in raised.value.next_step


async def test_it_waits_for_a_worker_that_is_ready_soon(settings: Settings) -> None:
    looks = iter([False, False])
    async with worker(settings, is_ready=lambda: next(looks, True)):
        assert (await double(calls(settings, patience=30), 21)).number == 42


async def test_while_the_engine_starts_the_caller_hears_so_soon(settings: Settings) -> None:
    with pytest.raises(EngineUnavailable, match="The engine is starting"):
        await double(calls(settings, engine=Elsewhere(up=False)), 21)


@pytest.mark.parametrize("patience", [0.2, None])
async def test_an_engine_elsewhere_is_asked_by_a_flow_run(
    settings: Settings, patience: float | None
) -> None:
    async with worker(settings):
        elsewhere = calls(settings, patience=patience, engine=Elsewhere(embedded=False))
        with pytest.raises(EngineUnavailable, match="A flow run asked"):
            await double(elsewhere, 21)


async def test_a_person_who_waits_gets_a_flow_run_where_nobody_listens(settings: Settings) -> None:
    with pytest.raises(EngineUnavailable, match="A flow run asked"):
        await double(calls(settings, patience=None), 21)


async def test_a_worker_takes_the_place_of_one_that_was_killed(settings: Settings) -> None:
    async with worker(settings):
        (socket,) = settings.engine_dir.iterdir()
        left = settings.home / "left"
        left.hardlink_to(socket)
    left.rename(socket)
    with pytest.raises(EngineUnavailable, match="still loading"):
        await double(calls(settings), 21)
    async with worker(settings):
        assert (await double(calls(settings), 21)).number == 42
