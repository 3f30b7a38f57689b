"""Calling tools as a client does."""

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.client import Client

Submit = Callable[..., Awaitable[dict[str, Any]]]
"""Submits the config of the fixture `config` with more arguments, and gives the answer."""


async def ok(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def error(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a call that fails: one line."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error, result.structured_content
    (content,) = result.content
    assert content.type == "text"
    assert "\n" not in content.text
    return content.text
