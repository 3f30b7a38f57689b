"""A pydantic-ai agent, run in its own environment. Prints one JSON line.

Its model is a script: each step reads the last tool's answer from the conversation, as a real
model would, and asks for the next call.
"""

import asyncio
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models.test import TestModel
from scripted import Script, scripted_model


def script(tools: list[str], quick: str, slow: str, cwd: str) -> Script:
    def submit(config: str) -> ToolCallPart:
        return ToolCallPart(
            "run_oumi_job", {"config_path": config, "client_cwd": cwd, "dry_run": False}
        )

    def wait(job_id: str, until: str) -> ToolCallPart:
        return ToolCallPart(
            "wait_for_job", {"job_id": job_id, "until": until, "timeout_seconds": 50}
        )

    first = (yield submit(quick))["job_id"]
    waited = (yield wait(first, "done"))["state"]
    logs = (yield ToolCallPart("get_job_logs", {"job_id": first}))["logs"]
    error = yield ToolCallPart("cancel_job", {"job_id": first})
    second = (yield submit(slow))["job_id"]
    started = (yield wait(second, "running"))["state"]
    yield ToolCallPart("cancel_job", {"job_id": second})
    cancelled = (yield wait(second, "done"))["state"]
    return {
        "tools": tools,
        "waited": waited,
        "logs": logs,
        "error": error,
        "started": started,
        "cancelled": cancelled,
    }


async def main(quick: str, slow: str, cwd: str, command: str, *args: str) -> None:
    transport = StdioTransport(command, list(args), env=dict(os.environ), keep_alive=False)
    toolset = MCPToolset(transport, tool_error_behavior="failed")
    async with toolset:
        # The test model makes up arguments from the schemas and calls what it is given.
        tour = Agent(TestModel(call_tools=["get_started", "list_jobs"]), toolsets=[toolset])
        await tour.run("Look around.")
        model = scripted_model(lambda tools: script(tools, quick, slow, cwd))
        agent = Agent(model, toolsets=[toolset])
        print((await agent.run("Run the two jobs.")).output)


asyncio.run(main(*sys.argv[1:]))
