"""A real MCP client on a real stdio server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from tests.support.stack import OUMI_FLOWS, Stack


@dataclass(frozen=True)
class Session:
    """One client's connection."""

    client: Client
    submitted: list[str] = field(default_factory=list[str])

    async def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        """The structured answer of a tool; a failed call fails the test."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def submit(self, config: Path, **arguments: Any) -> str:
        """Start a job; its id."""
        where = {"config_path": str(config), "client_cwd": str(config.parent)}
        job = await self.call("run_oumi_job", **where, dry_run=False, **arguments)
        self.submitted.append(job["job_id"])
        return job["job_id"]

    async def wait(self, job_id: str, until: str = "done") -> dict[str, Any]:
        """The job's status once it is `until`."""
        return await self.call("wait_for_job", job_id=job_id, until=until, timeout_seconds=60)


@asynccontextmanager
async def mcp_session(stack: Stack) -> AsyncGenerator[Session]:
    """A client of a server of its own, on the session's engine; ends the jobs it leaves."""
    server = StdioServerParameters(command=str(OUMI_FLOWS), args=["mcp"], env=dict(stack.env))
    async with Client(server, read_timeout_seconds=90) as client:
        session = Session(client)
        try:
            yield session
        finally:
            for job_id in session.submitted:
                # Refused if the job is done, as it should be.
                await client.call_tool("cancel_job", {"job_id": job_id, "force": True})
                await client.call_tool("wait_for_job", {"job_id": job_id, "timeout_seconds": 30})
