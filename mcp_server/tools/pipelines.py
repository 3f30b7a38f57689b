"""The tools that run several jobs as one."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from mcp_server.services.families.pipelines import NewPipeline, PipelineService, PipelineSubmission
from mcp_server.services.families.sweeps import NewSweep, SweepService, SweepSubmission
from mcp_server.services.jobs.service import JobService
from mcp_server.tools.arguments import Before
from mcp_server.tools.edge import make_tool, unless_dry_run
from mcp_server.tools.waiting import Wait, wait_for_end

DryRun = Annotated[bool, Field(description="Only check and plan."), Before("notify")]
Key = Annotated[str | None, Field(max_length=200, description="As for a job.")]


class PipelineTools:
    """The methods are the tools.

    Args:
        pipelines: Use cases of pipelines.
        sweeps: Use cases of sweeps.
        jobs: Use cases of jobs.
    """

    def __init__(self, pipelines: PipelineService, sweeps: SweepService, jobs: JobService) -> None:
        self._jobs = jobs
        self._pipelines = pipelines
        self._sweeps = sweeps

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(
                method,
                title=title,
                idempotent=False,
                open_world=True,
                changes=unless_dry_run,
            )
            for method, title in (
                (self.run_pipeline, "Run a pipeline"),
                (self.run_sweep, "Run a sweep"),
            )
        ]

    async def run_pipeline(
        self,
        *,
        new: NewPipeline,
        ctx: Context[Any],
        dry_run: DryRun = True,
        idempotency_key: Key = None,
        wait: Wait = False,
    ) -> PipelineSubmission:
        """Run jobs that depend on each other, e.g. train, evaluate, and infer only if it is good.

        overrides, envs and when may refer to other steps: ${train.output_dir},
        ${evaluate.metrics.exact_match} > 0.8. The job tools take the whole or a step.
        """
        if dry_run:
            return await self._pipelines.plan(new)
        started = await self._pipelines.submit(new, idempotency_key=idempotency_key)
        return await wait_for_end(self._jobs, ctx, started) if wait else started

    async def run_sweep(
        self,
        *,
        new: NewSweep,
        ctx: Context[Any],
        dry_run: DryRun = True,
        idempotency_key: Key = None,
        wait: Wait = False,
    ) -> SweepSubmission:
        """Run one job with many values and rank the trials by a metric.

        get_job_status shows the leaderboard; cancel_job ends all, retry_job reruns failed trials.
        """
        if dry_run:
            return await self._sweeps.plan(new)
        started = await self._sweeps.submit(new, idempotency_key=idempotency_key)
        return await wait_for_end(self._jobs, ctx, started) if wait else started
