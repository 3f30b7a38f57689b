"""A wait stops asking Prefect when its client has left, however it left."""

import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp.client import Client

from flows.core import names
from flows.core.settings import Settings
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.server import Options, Parts, build_server, make_parts
from mcp_server.services.jobs.service import JobService
from mcp_server.transports.http import HTTP_PATH, http_app
from tests.mcp_server.prefect_stub import PrefectServer
from tests.mcp_server.test_gateway import RUN, RUN_ID
from tests.mcp_server.test_stdio import INITIALIZE
from tests.support.waiting import eventually

JOB = RUN | {"tags": [names.TAG]}
ACCEPT = {"Accept": "application/json, text/event-stream"}
MODERN = {
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "wait_for_job",
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Prefect:
    """A server with one job that runs for ever; counts how often it is asked for it."""

    def __init__(self) -> None:
        self.asked = 0

    async def connection(self) -> PrefectServer:
        return PrefectServer(port=1, auth_string="a:b")

    async def revive(self) -> PrefectServer:
        return await self.connection()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(f"/flow_runs/{RUN_ID}"):
            self.asked += 1
            return httpx2.Response(200, json=JOB)
        is_filter = request.url.path.endswith("/flow_runs/filter")
        return httpx2.Response(200, json=[JOB] if is_filter else [])

    async def wait_until_polled(self) -> None:
        wanted = self.asked + 2
        await eventually(lambda: self.asked >= wanted, timeout=20)

    async def is_left_alone(self) -> bool:
        """Whether, within a few seconds, a second passes without a question."""
        with anyio.move_on_after(5):
            while True:
                before = self.asked
                await anyio.sleep(1)
                if self.asked == before:
                    return True
        return False


@pytest.fixture
def prefect() -> Prefect:
    return Prefect()


@pytest.fixture
async def parts(prefect: Prefect, settings: Settings) -> AsyncIterator[Parts]:
    gateway = PrefectGateway(prefect, timeout_seconds=5, transport=httpx2.MockTransport(prefect))
    jobs = JobService(
        gateway, snapshots_dir=settings.snapshots_dir, records_dir=settings.records_dir
    )
    made = make_parts(settings, lambda **_: PrefectServer(port=1, auth_string="a:b"))
    yield dataclasses.replace(made, gateway=gateway, jobs=jobs)
    await gateway.aclose()


@pytest.fixture
async def http(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    app = http_app(build_server(parts, Options()), host="127.0.0.1", allowed_hosts="")
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            async with httpx2.AsyncClient(base_url=url, headers=ACCEPT, timeout=30) as client:
                yield client
            server.should_exit = True


def call(*, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    arguments = {"job_id": RUN_ID, "timeout_seconds": 300}
    params = {"name": "wait_for_job", "arguments": arguments} | ({"_meta": meta} if meta else {})
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


async def open_session(http: httpx2.AsyncClient) -> dict[str, str]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    opened = await http.post(HTTP_PATH, json=body)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    await http.post(
        HTTP_PATH, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session
    )
    return session


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_connection_that_closes_ends_its_wait(
    era: str, http: httpx2.AsyncClient, prefect: Prefect
) -> None:
    headers = await open_session(http) if era == "legacy" else MODERN
    body = call(meta=META if era == "modern" else None)
    async with http.stream("POST", HTTP_PATH, json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        await prefect.wait_until_polled()

    assert await prefect.is_left_alone()


async def test_a_session_that_ends_ends_its_waits(
    http: httpx2.AsyncClient, prefect: Prefect
) -> None:
    session = await open_session(http)
    async with http.stream("POST", HTTP_PATH, json=call(), headers=session):
        await prefect.wait_until_polled()
        await http.delete(HTTP_PATH, headers=session)
        assert await prefect.is_left_alone()


async def test_a_cancelled_call_ends_its_wait_over_http(
    http: httpx2.AsyncClient, prefect: Prefect
) -> None:
    session = await open_session(http)
    cancelled = {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 7},
    }
    async with http.stream("POST", HTTP_PATH, json=call(), headers=session):
        await prefect.wait_until_polled()
        await http.post(HTTP_PATH, json=cancelled, headers=session)
        assert await prefect.is_left_alone()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_that_leaves_or_gives_up_ends_its_wait(
    mode: Any, parts: Parts, prefect: Prefect
) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(build_server(parts, Options()), mode=mode))
        arguments = {"job_id": RUN_ID, "timeout_seconds": 300}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "wait_for_job", arguments)
            await prefect.wait_until_polled()
            tasks.cancel_scope.cancel()
        assert await prefect.is_left_alone()
