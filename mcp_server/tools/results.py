"""The tools that show and copy what came out of a job."""

from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.results.values import JobResults
from mcp_server.services.results.collecting import CollectService, StartedCollection
from mcp_server.services.results.reading import ResultsService
from mcp_server.tools.edge import always, make_tool
from mcp_server.tools.jobs import JobId


class ResultTools:
    """The methods are the tools.

    Args:
        results: Lists results.
        collect: Copies them.
    """

    def __init__(self, results: ResultsService, collect: CollectService) -> None:
        self._results = results
        self._collect = collect

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.get_job_results, title="Results of a job", open_world=True),
            make_tool(
                self.collect_results, title="Copy results here", open_world=True, changes=always
            ),
        ]

    async def get_job_results(self, *, job_id: JobId) -> JobResults:
        """List what a job made so far: checkpoints (which is best), models, scores, files."""
        return await self._results.read(job_id)

    async def collect_results(
        self,
        *,
        job_id: JobId,
        into: Annotated[str, Field(max_length=4096, description="Absolute folder here.")],
        what: Annotated[
            list[str],
            Field(
                max_length=50,
                description="models, checkpoints, best, scores, files, listed names or paths; "
                "empty: all.",
            ),
        ] = [],  # noqa: B006 - read only
    ) -> StartedCollection:
        """Copy a job's results here, from a cluster too, as a job; checks checksums.

        Overwrites nothing; call again to continue.
        """
        return await self._collect.collect(job_id, into, what)
