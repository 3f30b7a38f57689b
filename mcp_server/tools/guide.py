"""The tool that explains where to start."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.models import Value
from mcp_server.guidance import GUIDES, read_guide, read_offered
from mcp_server.tools.edge import make_tool

Topic = Literal[
    "",
    "mle-workflow",
    "mle-train",
    "mle-synth",
    "mle-analyze",
    "mle-eval",
    "mle-infer",
    "cloud-launch",
    "post-training",
    "jobs-and-schedules",
    "pipelines-and-sweeps",
]


class Guide(Value):
    """Where to start, or a guide."""

    summary: str = Field(description="One line a person can read.")
    guide: str = Field(description="Markdown.")


class GuideTools:
    """The methods are the tools.

    Args:
        toolsets: The tools this server offers, by group.
    """

    def __init__(self, toolsets: Callable[[], Mapping[str, Sequence[Tool]]]) -> None:
        self._toolsets = toolsets

    def tools(self) -> list[Tool]:
        """The tools."""
        return [make_tool(self.get_started, title="Get started")]

    async def get_started(
        self,
        *,
        topic: Annotated[Topic, Field(description="A guide to read; empty: where to start.")] = "",
    ) -> Guide:
        """Read first: what this server does, its tools, the usual order, and guides by topic."""
        if topic:
            return Guide(summary=GUIDES[topic], guide=read_guide(topic))
        toolsets = self._toolsets()
        offered = [tool.name for tools in toolsets.values() for tool in tools]
        text = read_offered(
            "get_started",
            offered,
            tools="\n".join(f"- {name}: {_names(tools)}" for name, tools in toolsets.items()),
            guides="\n".join(f"- {name}: {about}" for name, about in GUIDES.items()),
        )
        return Guide(summary="How to run and follow Oumi jobs with this server.", guide=text)


def _names(tools: Sequence[Tool]) -> str:
    return ", ".join(tool.name for tool in tools)
