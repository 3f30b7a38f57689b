"""Asks the worker of this machine without a flow run: `flows.core.direct_questions`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from flows.core.direct_questions import (
    DIRECT_FLOWS,
    LONGEST_BYTES,
    Greeting,
    Question,
    Reply,
    socket_path,
)
from flows.core.errors import EngineUnavailable, OperationTimeout
from mcp_server.prefect_api.gateway import PrefectGateway

_GREETING_SECONDS: Final = 1.0
"""How long a worker may take to greet; one that is busy gets a flow run."""
_POLL_SECONDS: Final = 0.1
_NOT_YET: Final = (FileNotFoundError, ConnectionRefusedError)
"""No worker listens: it starts, or one was killed and is about to be replaced."""

Message = TypeVar("Message", bound=BaseModel)


class DirectQuestions:
    """The way to the worker of this machine that is fast and leaves no trace.

    Args:
        gateway: Knows the engine and the pool.
        folder: The engine's folder.
        patience_seconds: How long to wait for an engine that starts; None: as long as it takes.
        flows: The flows that can be asked so.
    """

    def __init__(
        self,
        gateway: PrefectGateway,
        folder: Path,
        *,
        patience_seconds: float | None = None,
        flows: Collection[str] = DIRECT_FLOWS,
    ) -> None:
        self._gateway = gateway
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._flows = flows

    async def ask(
        self, flow: str, parameters: Mapping[str, Any], *, timeout_seconds: float
    ) -> Reply | None:
        """Ask; return the reply, or None if only a flow run can ask.

        Raises:
            EngineUnavailable: The engine starts, or its worker loads Oumi: ask again.
            OperationTimeout: The worker did not answer in time.
        """
        if flow not in self._flows:
            return None
        api_url = await self._local_server()
        if api_url is None:
            return None
        question = Question(flow=flow, parameters=dict(parameters))
        deadline = time.monotonic() + (self._patience_seconds or 0.0)
        while True:
            try:
                async with self._greeted(api_url) as (greeting, reader, writer):
                    if greeting.version != _own_version():
                        return None
                    if greeting.is_ready:
                        writer.write(question.model_dump_json().encode() + b"\n")
                        return await _read_reply(reader, timeout_seconds)
            except _NOT_YET:
                pass
            except (OSError, ValidationError):
                return None
            if self._patience_seconds is None:
                return None
            if time.monotonic() >= deadline:
                raise _starting("The worker is still loading Oumi")
            await asyncio.sleep(_POLL_SECONDS)

    async def _local_server(self) -> str | None:
        """The address of the engine's own server; None: the engine is elsewhere.

        Raises:
            EngineUnavailable: It starts.
        """
        connecting = asyncio.ensure_future(self._gateway.engine.connection())
        done, _ = await asyncio.wait({connecting}, timeout=self._patience_seconds)
        if not done:
            connecting.cancel()  # the start itself goes on
            raise _starting("The engine is starting")
        connection = connecting.result()
        return connection.api_url if connection.embedded else None

    @asynccontextmanager
    async def _greeted(
        self, api_url: str
    ) -> AsyncGenerator[tuple[Greeting, asyncio.StreamReader, asyncio.StreamWriter]]:
        pool = self._gateway.work_pool
        with socket_path(self._folder, api_url=api_url, work_pool=pool) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_BYTES)
        try:
            yield await _read(reader, Greeting, _GREETING_SECONDS), reader, writer
        finally:
            writer.close()


async def _read_reply(reader: asyncio.StreamReader, timeout_seconds: float) -> Reply | None:
    """Read the reply; None if the worker ended, or failed at the question."""
    try:
        return await _read(reader, Reply, timeout_seconds)
    except TimeoutError as error:
        raise OperationTimeout(
            f"The worker did not answer within {timeout_seconds:g} s",
            "Try again; `oumi-flows doctor` shows what the worker is doing",
        ) from error
    except (OSError, ValidationError):
        return None


async def _read(reader: asyncio.StreamReader, shape: type[Message], seconds: float) -> Message:
    async with asyncio.timeout(seconds):
        return shape.model_validate_json(await reader.readline())


def _starting(what: str) -> EngineUnavailable:
    return EngineUnavailable(
        what,
        "Call again in half a minute for the rest of the checks; "
        "`oumi-flows status` says when the worker is ready",
    )


@cache
def _own_version() -> str:
    return version("oumi-flows")
