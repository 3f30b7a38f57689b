"""The tools that run several jobs as one."""

from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from mcp_server.services.pipelines import NewPipeline, PipelineService, PipelineSubmission
from mcp_server.tools.edge import make_tool

Cwd = Annotated[
    str, Field(min_length=1, max_length=4096, description="Absolute path of your working folder.")
]
DryRun = Annotated[bool, Field(description="True: check and show the plan. False: start it.")]
Key = Annotated[
    str | None,
    Field(min_length=1, max_length=200, description="The same key answers with the same run."),
]


class PipelineTools:
    """The methods are the tools.

    Args:
        pipelines: What the tools do.
    """

    def __init__(self, pipelines: PipelineService) -> None:
        self._pipelines = pipelines

    def tools(self, *, read_only: bool) -> list[Tool]:
        """The tools.

        Args:
            read_only: Whether calls that change anything are refused.
        """
        return [
            make_tool(
                self.run_pipeline,
                title="Run a pipeline",
                idempotent=False,
                open_world=True,
                changes=lambda arguments: not arguments["dry_run"],
                read_only=read_only,
            )
        ]

    async def run_pipeline(
        self,
        *,
        client_cwd: Cwd,
        pipeline_path: Annotated[
            str, Field(max_length=4096, description="YAML file with `steps`; or give steps.")
        ] = "",
        steps: Annotated[
            list[dict[str, Any]],
            Field(
                max_length=100,
                description="Each: name, the arguments of run_oumi_job, and needs (list), when "
                "(condition), each (list; ${item}, ${index}), envs, may_fail.",
            ),
        ] = [],  # noqa: B006 - never changed; the schema shows it
        dry_run: DryRun = True,
        idempotency_key: Key = None,
    ) -> PipelineSubmission:
        """Run jobs that depend on each other: train, evaluate, and go on if it is good enough.

        overrides, envs and when may refer to other steps: ${train.output_dir}, ${train.job_id},
        ${evaluate.metrics.exact_match} > 0.8. Follow, cancel and retry the whole by its job_id,
        or one step by its own, with the tools for jobs.
        """
        new = NewPipeline(path=pipeline_path, steps=steps, client_cwd=client_cwd)
        if dry_run:
            return await self._pipelines.plan(new)
        return await self._pipelines.submit(new, idempotency_key=idempotency_key)
