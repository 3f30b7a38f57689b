"""An MCP client that starts its stdio server again whenever the server is gone."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import psutil
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult

from tests.support.stack import OUMI_FLOWS

_CALL_SECONDS = 60.0
_SERVER_ENV = "OUMI_FLOWS_TEST_SERVER"


class ReconnectingClient:
    """Calls tools, again on a new server when an answer was lost.

    Attributes:
        lost_answers: Calls whose answer never came.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._mark = uuid.uuid4().hex
        self._server = StdioServerParameters(
            command=str(OUMI_FLOWS), args=["mcp"], env={**env, _SERVER_ENV: self._mark}
        )
        self._client: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self.lost_answers = 0

    async def call(self, tool: str, **arguments: object) -> CallToolResult:
        """The answer of a tool; the call is sent until there is one, so it must bear that."""
        while True:
            client = await asyncio.shield(self._client)
            try:
                return await client.call_tool(tool, arguments)
            except MCPError:
                self.lost_answers += 1
                if self._client.done() and self._client.result() is client:
                    self._client = asyncio.get_running_loop().create_future()
                    self._gone.set()

    async def keep_connected(self) -> None:
        """Connect, and again after each loss, until cancelled."""
        while True:
            self._gone.clear()
            try:
                async with Client(self._server, read_timeout_seconds=_CALL_SECONDS) as client:
                    self._client.set_result(client)
                    await self._gone.wait()
            except* MCPError:
                pass  # killed during the handshake; another one is started

    def kill_server(self) -> bool:
        """Kill the server with signal 9; whether there was one."""
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.environ().get(_SERVER_ENV) == self._mark:
                    os.kill(child.pid, signal.SIGKILL)
                    return True
        return False


@asynccontextmanager
async def reconnecting_client(env: Mapping[str, str]) -> AsyncGenerator[ReconnectingClient]:
    """A client whose servers run in the environment `env`."""
    client = ReconnectingClient(env)
    keeping = asyncio.create_task(client.keep_connected())
    try:
        yield client
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
