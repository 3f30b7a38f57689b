"""Whether the client of a call is still there."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

import anyio
from mcp.server.mcpserver import Context
from starlette.requests import Request

from flows.core.errors import OperationTimeout

T = TypeVar("T")


async def wait_for_client(ctx: Context[Any], wait: Awaitable[T]) -> T:
    """Await a result, and stop early when the connection of the call closes.

    Earlier revisions of MCP over HTTP do not treat that as a cancel, so the SDK (mcp 2.3) lets the
    call continue. A call that changes something must continue; a wait changes nothing, and its
    answer would reach no client.

    Raises:
        OperationTimeout: The connection closed; no client receives the error.
    """
    request = ctx.request_context.request
    if not isinstance(request, Request):
        return await wait
    scope = anyio.CancelScope()
    # Not in a task group, which would wrap what the wait raises.
    watch = asyncio.create_task(_cancel_when_closed(cast("Request[Any]", request), scope))
    try:
        with scope:
            return await wait
    finally:
        watch.cancel()
    raise OperationTimeout("The client closed the connection of this wait", "Call it again")


async def _cancel_when_closed(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
