"""The tools that run several jobs as one."""

from typing import Annotated, Any, Final, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from flows.core.models import NotifyOn
from mcp_server.services.families.pipelines import NewPipeline, PipelineService, PipelineSubmission
from mcp_server.services.families.sweeps import NewSweep, SweepService, SweepSubmission
from mcp_server.tools.edge import make_tool

Cwd = Annotated[str, Field(max_length=4096, description="Absolute working folder.")]
DryRun = Annotated[bool, Field(description="True: only check and plan.")]
_SAME: Final = Field(description="As in run_oumi_job.")
Key = Annotated[str | None, Field(max_length=200), _SAME]
Notify = Annotated[str | None, Field(max_length=2000), _SAME]
NotifyAt = Annotated[Literal["end", "failure"], _SAME]


class PipelineTools:
    """The methods are the tools.

    Args:
        pipelines: Use cases of pipelines.
        sweeps: Use cases of sweeps.
    """

    def __init__(self, pipelines: PipelineService, sweeps: SweepService) -> None:
        self._pipelines = pipelines
        self._sweeps = sweeps

    def tools(self, *, read_only: bool) -> list[Tool]:
        """The tools.

        Args:
            read_only: Whether calls that change anything are refused.
        """
        return [
            make_tool(
                method,
                title=title,
                idempotent=False,
                open_world=True,
                changes=lambda arguments: not arguments["dry_run"],
                read_only=read_only,
            )
            for method, title in (
                (self.run_pipeline, "Run a pipeline"),
                (self.run_sweep, "Run a sweep"),
            )
        ]

    async def run_pipeline(
        self,
        *,
        client_cwd: Cwd,
        pipeline_path: Annotated[
            str, Field(max_length=4096, description="YAML file; or give steps.")
        ] = "",
        steps: Annotated[
            list[dict[str, Any]],
            Field(
                max_length=100,
                description="Each: name, run_oumi_job's arguments, needs (list), when (condition), "
                "each (list; ${item}, ${index}), envs, may_fail.",
            ),
        ] = [],  # noqa: B006 - never changed; the schema shows it
        dry_run: DryRun = True,
        notify: Notify = None,
        notify_on: NotifyAt = "end",
        idempotency_key: Key = None,
    ) -> PipelineSubmission:
        """Run jobs that depend on each other, e.g. train, evaluate, and infer only if it is good.

        overrides, envs and when may refer to other steps: ${train.output_dir},
        ${evaluate.metrics.exact_match} > 0.8. The job tools work on the whole by its
        job_id and on each step by its own.
        """
        new = NewPipeline(
            path=pipeline_path,
            steps=steps,
            client_cwd=client_cwd,
            notify=notify,
            notify_on=NotifyOn(notify_on),
        )
        if dry_run:
            return await self._pipelines.plan(new)
        return await self._pipelines.submit(new, idempotency_key=idempotency_key)

    async def run_sweep(
        self,
        *,
        client_cwd: Cwd,
        sweep_path: Annotated[
            str, Field(max_length=4096, description="YAML file; or give sweep.")
        ] = "",
        sweep: Annotated[
            dict[str, Any],
            Field(
                max_length=50,
                description="run_oumi_job's arguments, and space (dotted key: list or {low, high, "
                "step, log}; or a list of combinations), metric, direction (minimize, maximize), "
                "search (grid, random, optuna), trials, concurrency, seed, early_stopping "
                "{after_trials, after_steps}.",
            ),
        ] = {},  # noqa: B006 - never changed; the schema shows it
        dry_run: DryRun = True,
        notify: Notify = None,
        notify_on: NotifyAt = "end",
        idempotency_key: Key = None,
    ) -> SweepSubmission:
        """Run one job with many values and rank the trials by a metric.

        get_job_status shows the leaderboard; cancel_job ends all, retry_job reruns failed trials.
        """
        new = NewSweep(
            path=sweep_path,
            content=sweep,
            client_cwd=client_cwd,
            notify=notify,
            notify_on=NotifyOn(notify_on),
        )
        if dry_run:
            return await self._sweeps.plan(new)
        return await self._sweeps.submit(new, idempotency_key=idempotency_key)
