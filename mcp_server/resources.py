"""The ``jobs://`` and ``guidance://`` resources."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import FunctionResource

from flows.errors import JobNotFound, OumiFlowsError
from mcp_server.guidance import GUIDES, read_guide
from mcp_server.services.jobs import JobService
from mcp_server.watching import COMPLETED_URI, RUNNING_URI

_JSON: Final = "application/json"
_ROWS: Final = 20
_LOG_LINES: Final = 200


def add_resources(server: MCPServer[None], jobs: JobService) -> None:
    """Register the resources."""
    for name, about in GUIDES.items():
        server.add_resource(
            FunctionResource.from_function(
                partial(read_guide, name),
                f"guidance://{name}",
                name=name,
                title=f"Guide: {name}",
                description=about,
                mime_type="text/markdown",
            )
        )

    @server.resource(RUNNING_URI, title="Running jobs", mime_type=_JSON)
    async def running_jobs() -> str:
        """Jobs that have not ended."""
        async with _told():
            return (await jobs.list(status="running", limit=_ROWS)).model_dump_json()

    @server.resource(COMPLETED_URI, title="Completed jobs", mime_type=_JSON)
    async def completed_jobs() -> str:
        """Jobs that have ended, however they did."""
        async with _told():
            return (await jobs.list(status="completed", limit=_ROWS)).model_dump_json()

    @server.resource("jobs://{job_id}", title="Job status", mime_type=_JSON)
    async def job(job_id: str) -> str:
        """The status of one job; updated when its state changes."""
        async with _told():
            return (await jobs.status(job_id)).model_dump_json()

    @server.resource("jobs://{job_id}/logs", title="Job logs", mime_type="text/plain")
    async def job_logs(job_id: str) -> str:
        """The last lines of one job's output."""
        async with _told():
            return (await jobs.logs(job_id, lines=_LOG_LINES)).logs

    # The server keeps what was registered.
    del running_jobs, completed_jobs, job, job_logs


@asynccontextmanager
async def _told() -> AsyncGenerator[None]:
    """Errors as a resource tells them."""
    try:
        yield
    except JobNotFound as error:
        raise ResourceNotFoundError(str(error)) from error
    except OumiFlowsError as error:
        raise ResourceError(str(error)) from error
