"""The tool that says where to start."""

from collections.abc import Callable, Sequence

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.models import Value
from mcp_server.guidance import read_guidance
from mcp_server.tools.edge import make_tool


class Guide(Value):
    """Where to start."""

    summary: str = Field(description="One line a person can read.")
    guide: str = Field(description="What the tools do and in which order to use them (Markdown).")


class GuideTools:
    """The methods are the tools.

    Args:
        all_tools: Every tool of this server.
    """

    def __init__(self, all_tools: Callable[[], Sequence[Tool]]) -> None:
        self._all_tools = all_tools

    def tools(self) -> list[Tool]:
        """The tools."""
        return [make_tool(self.get_started, title="Get started")]

    async def get_started(self) -> Guide:
        """Read first: what this server does, which tool does what, and the usual order."""
        lines = [
            f"- `{tool.name}`: {tool.description.splitlines()[0]}"
            for tool in self._all_tools()
            if tool.name != "get_started"
        ]
        text = read_guidance("get_started", tools="\n".join(lines))
        return Guide(summary="How to run and follow Oumi jobs with this server.", guide=text)
