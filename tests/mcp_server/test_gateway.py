"""The gateway against a Prefect server that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from flows.core.errors import EngineUnavailable, InternalError, JobNotFound
from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.run_filter import RunFilter
from tests.mcp_server.prefect_stub import PrefectServer

RUN_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"
RUN: dict[str, Any] = {
    "id": RUN_ID,
    "name": "train-tiny-7c459f95",
    "created": "2026-01-01T00:00:00Z",
    "expected_start_time": "2026-01-01T00:00:00Z",
    "state": {"type": "RUNNING", "name": "Running", "timestamp": "2026-01-01T00:00:00Z"},
}


class ScriptedPrefect:
    """Answers requests one after the other: a status with a body, or an error."""

    def __init__(self, *answers: tuple[int, Any] | type[httpx2.TransportError]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.revivals = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, tuple):
            return httpx2.Response(answer[0], json=answer[1])
        raise answer("scripted", request=request)

    async def connection(self) -> PrefectServer:
        return PrefectServer(port=1, auth_string="user:pass")

    async def revive(self) -> PrefectServer:
        self.revivals += 1
        return await self.connection()


Scripted = Callable[..., tuple[ScriptedPrefect, PrefectGateway]]


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    gateways: list[PrefectGateway] = []

    def make(*answers: Any) -> tuple[ScriptedPrefect, PrefectGateway]:
        server = ScriptedPrefect(*answers)
        transport = httpx2.MockTransport(server)
        gateway = PrefectGateway(
            server, timeout_seconds=5, transport=transport, busy_delays=[0.0] * 4
        )
        gateways.append(gateway)
        return server, gateways[-1]

    yield make
    for gateway in gateways:
        await gateway.aclose()


def read(gateway: PrefectGateway) -> Awaitable[object]:
    return gateway.read_run(RUN_ID)


async def test_requests_carry_the_credentials(scripted: Scripted) -> None:
    server, gateway = scripted((200, RUN))
    await read(gateway)
    assert server.requests[0].headers["authorization"] == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize("error", [httpx2.ConnectError, httpx2.ReadError])
async def test_a_read_that_meets_a_dead_engine_is_made_again_when_it_is_back(
    scripted: Scripted, error: type[httpx2.TransportError]
) -> None:
    server, gateway = scripted(error, (200, RUN))
    assert (await gateway.read_run(RUN_ID)).name == RUN["name"]
    assert server.revivals == 1


async def test_an_engine_that_stays_dead_is_unavailable(scripted: Scripted) -> None:
    server, gateway = scripted(httpx2.ConnectError, httpx2.ConnectError)
    with pytest.raises(EngineUnavailable, match="did not answer"):
        await read(gateway)
    assert len(server.requests) == 2


async def test_a_server_that_hangs_is_not_asked_twice(scripted: Scripted) -> None:
    server, gateway = scripted(httpx2.ReadTimeout)
    with pytest.raises(EngineUnavailable, match="ReadTimeout"):
        await read(gateway)
    assert (len(server.requests), server.revivals) == (1, 0)


@pytest.mark.parametrize(("error", "requests"), [(httpx2.ReadError, 1), (httpx2.ConnectError, 2)])
async def test_what_must_not_happen_twice_is_sent_again_only_if_it_never_left(
    scripted: Scripted, error: type[httpx2.TransportError], requests: int
) -> None:
    server, gateway = scripted(error, error)
    with pytest.raises(EngineUnavailable):
        await gateway.set_state(
            RUN_ID, PREFECT_STATE[JobState.RETRYING], message="", repeatable=False
        )
    assert len(server.requests) == requests


async def test_a_busy_server_is_asked_again(scripted: Scripted) -> None:
    server, gateway = scripted((503, {}), (429, {}), (200, RUN))
    await read(gateway)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((404, {}), JobNotFound, RUN_ID),
        ((401, {}), EngineUnavailable, "PREFECT_API_AUTH_STRING"),
        ((500, {}), EngineUnavailable, "answered 500"),
        ((422, {"detail": "no"}), InternalError, "answered 422"),
        ((200, {"id": RUN_ID}), EngineUnavailable, "its form is unexpected at name"),
        ((200, []), EngineUnavailable, "is unexpected"),
    ],
)
async def test_a_failure_of_prefect_is_one_of_our_errors(
    scripted: Scripted, answer: tuple[int, Any], error: type[Exception], text: str
) -> None:
    _, gateway = scripted(answer)
    with pytest.raises(error, match=text):
        await read(gateway)


async def test_a_deployment_made_anew_is_looked_up_anew(scripted: Scripted) -> None:
    server, gateway = scripted(
        (200, {"id": "old"}), (201, RUN), (404, {}), (200, {"id": "new"}), (201, RUN)
    )
    for _ in range(2):
        await gateway.create_run(
            name="n", parameters={}, tags=[], labels=RunLabels(), idempotency_key="k"
        )
    assert [request.url.path for request in server.requests] == [
        "/api/deployments/name/oumi-job/default",
        "/api/deployments/old/create_flow_run",
        "/api/deployments/old/create_flow_run",
        "/api/deployments/name/oumi-job/default",
        "/api/deployments/new/create_flow_run",
    ]


DEPLOYMENT = (200, {"id": "known"})


def create(gateway: PrefectGateway) -> Awaitable[object]:
    return gateway.create_run(
        name="n", parameters={}, tags=[], labels=RunLabels(), idempotency_key="k"
    )


@pytest.mark.parametrize("error", [httpx2.ReadTimeout, httpx2.ReadError, httpx2.ConnectError])
async def test_a_submission_whose_answer_is_lost_is_asked_for_again_with_its_key(
    scripted: Scripted, error: type[httpx2.TransportError]
) -> None:
    server, gateway = scripted(DEPLOYMENT, error, (200, RUN))
    await create(gateway)
    first, second = server.requests[1:]
    assert first.content == second.content
    assert json.loads(first.content)["idempotency_key"] == "k"
    assert server.revivals == (0 if error is httpx2.ReadTimeout else 1)
    limits = [request.extensions["timeout"]["read"] for request in (first, second)]
    assert sum(limits) == pytest.approx(5)


@pytest.mark.parametrize(
    ("errors", "may_exist"),
    [
        ((httpx2.ReadTimeout, httpx2.ReadTimeout), True),
        ((httpx2.ReadTimeout, httpx2.ConnectError), True),
        ((httpx2.ReadError, httpx2.ConnectError), True),
        ((httpx2.ConnectError, httpx2.ReadTimeout), True),
        ((httpx2.ConnectError, httpx2.ConnectError), False),
        ((httpx2.ConnectTimeout, httpx2.ConnectTimeout), False),
    ],
)
async def test_a_submission_that_may_have_been_taken_is_not_called_a_failure_only(
    scripted: Scripted, errors: tuple[type[httpx2.TransportError], ...], *, may_exist: bool
) -> None:
    _, gateway = scripted(DEPLOYMENT, *errors)
    with pytest.raises(EngineUnavailable, match="did not answer") as raised:
        await create(gateway)
    assert ("list_jobs" in str(raised.value)) is may_exist
    assert ("it is unknown whether" in str(raised.value)) is may_exist


async def test_a_submission_whose_answer_is_lost_with_the_engine_may_have_been_taken(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, gateway = scripted(DEPLOYMENT, httpx2.ReadError)

    async def stays_down() -> PrefectServer:
        raise EngineUnavailable("The engine did not come up", "Run it")

    monkeypatch.setattr(server, "revive", stays_down)
    with pytest.raises(
        EngineUnavailable,
        match=r"did not come up; it is unknown whether Prefect accepted the submission",
    ):
        await create(gateway)


@pytest.mark.parametrize(
    "answers",
    [[(404, {})], [(500, {})], [httpx2.ReadTimeout], [httpx2.ConnectError, httpx2.ConnectError]],
)
async def test_a_name_that_cannot_be_given_is_left_to_the_worker(
    scripted: Scripted, answers: list[Any]
) -> None:
    server, gateway = scripted(*answers)
    await gateway.rename_run(RUN_ID, "another")
    assert server.answers == []


async def test_a_server_that_does_not_name_a_run_soon_keeps_nobody_waiting() -> None:
    async def hang(request: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    transport = httpx2.MockTransport(hang)
    gateway = PrefectGateway(
        ScriptedPrefect(), timeout_seconds=60, transport=transport, naming_seconds=0.01
    )
    await asyncio.wait_for(gateway.rename_run(RUN_ID, "another"), timeout=5)
    await gateway.aclose()


async def test_a_link_is_left_out_when_the_engine_is_gone(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, gateway = scripted()
    assert await gateway.ui_url() == "http://127.0.0.1:1"

    async def gone() -> PrefectServer:
        raise EngineUnavailable("The engine did not come up", "Run it")

    monkeypatch.setattr(server, "connection", gone)
    assert await gateway.ui_url() is None


async def test_a_server_without_the_deployment_is_not_an_engine(scripted: Scripted) -> None:
    _, gateway = scripted((404, {}))
    with pytest.raises(EngineUnavailable, match="no deployment oumi-job/default"):
        await gateway.create_run(
            name="n", parameters={}, tags=[], labels=RunLabels(), idempotency_key="k"
        )


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_a_filter(state: JobState) -> None:
    (kinds,) = RunFilter(states=frozenset({state})).body()["state"]["type"].values()
    assert kinds
