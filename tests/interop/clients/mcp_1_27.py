"""The Python SDK 1.27, run in its own environment. Prints one JSON line."""

import asyncio
import json
import os
import sys
from datetime import timedelta

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(quick: str, slow: str, cwd: str, command: str, *args: str) -> None:
    server = StdioServerParameters(command=command, args=list(args), env=dict(os.environ))
    async with (
        stdio_client(server) as (read, write),
        ClientSession(read, write, read_timeout_seconds=timedelta(seconds=60)) as session,
    ):
        protocol = (await session.initialize()).protocolVersion

        async def call(name: str, **arguments: object) -> dict[str, str]:
            result = await session.call_tool(name, dict(arguments))
            text = result.content[0].text  # type: ignore[union-attr]
            return {"error": text} if result.isError else result.structuredContent

        async def submit(config: str) -> str:
            made = await call("run_oumi_job", config_path=config, client_cwd=cwd, dry_run=False)
            return made["job_id"]

        async def wait(job_id: str, until: str) -> str:
            seen = await call("wait_for_job", job_id=job_id, until=until, timeout_seconds=50)
            return seen["state"]

        tools = [tool.name for tool in (await session.list_tools()).tools]
        first = await submit(quick)
        waited = await wait(first, "done")
        logs = (await call("get_job_logs", job_id=first))["logs"]
        error = (await call("cancel_job", job_id=first))["error"]
        second = await submit(slow)
        started = await wait(second, "running")
        await call("cancel_job", job_id=second)
        cancelled = await wait(second, "done")
    print(
        json.dumps(
            {
                "protocol": protocol,
                "tools": tools,
                "waited": waited,
                "logs": logs,
                "error": error,
                "started": started,
                "cancelled": cancelled,
            }
        )
    )


asyncio.run(main(*sys.argv[1:]))
