"""Plans and submits pipelines."""

from pathlib import Path
from typing import Annotated, Any, Final

import anyio.to_thread
from pydantic import Field

from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.models import NotifyOn, Value
from flows.core.pipelines.spec import Pipeline
from flows.core.pipelines.written import read_pipeline
from mcp_server.declared_arguments import Argument, Option
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.families.pipeline_checks import (
    CheckedPart,
    CheckedPipeline,
    check_pipeline,
    keep_pipeline,
    refuse_shared,
)
from mcp_server.services.families.submissions import (
    FamilySubmission,
    Folder,
    Receiver,
    ReportedEnds,
    read_yaml,
    submit_parent,
)
from mcp_server.services.jobs.notifications import Notifications, check_receiver
from mcp_server.services.jobs.output_folders import OUTPUT_CODES, OutputFolders
from mcp_server.services.jobs.plan_warnings import warnings_of_plan
from mcp_server.services.jobs.status import run_url
from mcp_server.services.jobs.submitting import shorten

_SHOWN: Final = 40
_WARNINGS: Final = 5
_TEXT: Final = 120


class NewPipeline(Value):
    """A pipeline as a person requests it, unchecked."""

    client_cwd: Folder
    pipeline_path: Annotated[
        str,
        Argument(
            "YAML file; or give steps.",
            Option("Pipeline (YAML).", metavar="FILE", positional=True),
            max_length=4096,
        ),
    ] = ""
    steps: Annotated[
        list[dict[str, Any]],
        Argument(
            "Each: name, run_oumi_job's arguments, needs (list), when (condition), "
            "each (list; ${item}, ${index}), envs, may_fail.",
            max_length=100,
        ),
    ] = Field(default_factory=list[dict[str, Any]])
    notify: Receiver = None
    notify_on: ReportedEnds = NotifyOn.END


class PlannedStep(Value):
    """A job of a pipeline, before it is started."""

    name: str
    command: str
    config_path: str
    cloud: str
    output_dir: str
    after: list[str] = Field(description="Steps that must end before.")
    when: str


class PipelineSubmission(FamilySubmission):
    """A pipeline that was started, or would be."""

    steps: list[PlannedStep]


class PipelineService:
    """Pipelines: plan and start them.

    Args:
        gateway: Prefect's API.
        snapshots_dir: Where configs are kept as submitted.
    """

    def __init__(self, gateway: PrefectGateway, *, snapshots_dir: Path) -> None:
        self._gateway = gateway
        self._snapshots_dir = snapshots_dir
        self._notifications = Notifications(gateway)
        self._outputs = OutputFolders(gateway, snapshots_dir=snapshots_dir)

    async def plan(self, new: NewPipeline) -> PipelineSubmission:
        """Check every step and return what `submit` would start; start nothing."""
        checked = await anyio.to_thread.run_sync(checked_pipeline, new)
        return _answer(await self._looked_at(checked), None, url=None)

    async def _looked_at(self, checked: CheckedPipeline) -> CheckedPipeline:
        """Check the pipeline, with the folders of its jobs."""
        parts: list[CheckedPart] = []
        live = await self._outputs.live_if_found()
        for one in checked.parts:
            later = bool(one.part.after)
            parts.append(
                one._replace(job=await self._outputs.look_at(one.job, live=live, later=later))
            )
        return checked._replace(parts=parts)

    async def submit(
        self, new: NewPipeline, *, idempotency_key: str | None = None
    ) -> PipelineSubmission:
        """Start a pipeline; it is durable when this returns.

        Args:
            new: The pipeline.
            idempotency_key: The same key returns the same pipeline.

        Raises:
            OumiFlowsError: A step cannot be run; nothing was started.
        """
        checked = await anyio.to_thread.run_sync(checked_pipeline, new)
        checked = await self._looked_at(checked)
        for one in checked.parts:
            refuse_shared(one)
        part_tags = await tags_of_parts(checked, self._notifications)
        pipeline: Pipeline = await anyio.to_thread.run_sync(
            keep_pipeline, checked, self._snapshots_dir, part_tags
        )
        run = await submit_parent(
            self._gateway,
            flow=names.PIPELINE_FLOW,
            command=names.PIPELINE_COMMAND,
            name=pipeline.name,
            parameters={"pipeline": pipeline.model_dump(mode="json")},
            tags=await self._notifications.tags(new.notify, new.notify_on),
            idempotency_key=idempotency_key,
        )
        return _answer(checked, run, url=run_url(await self._gateway.ui_url(), run.id))


async def tags_of_parts(
    checked: CheckedPipeline, notifications: Notifications
) -> dict[str, list[str]]:
    """Return the notification tags of each part; create their automations in Prefect."""
    tags: dict[tuple[str, NotifyOn], list[str]] = {}
    part_tags: dict[str, list[str]] = {}
    for part, _, notify, on in checked.parts:
        if notify is not None:
            if (notify, on) not in tags:
                tags[notify, on] = await notifications.tags(notify, on)
            part_tags[part.name] = tags[notify, on]
    return part_tags


def checked_pipeline(new: NewPipeline) -> CheckedPipeline:
    """Read a pipeline and check every job of it.

    Raises:
        OumiFlowsError: It cannot be run.
    """
    if new.notify is not None:
        check_receiver(new.notify)
    if new.pipeline_path and new.steps:
        raise InvalidArgument("pipeline_path and steps were both given", "Give one of them")
    if new.steps:
        written = read_pipeline(new.steps, name=names.PIPELINE_COMMAND)
        return check_pipeline(written, path="", client_cwd=new.client_cwd)
    path, data = read_yaml(new.pipeline_path, new.client_cwd, "pipeline")
    written = read_pipeline(data, name=Path(path).stem)
    return check_pipeline(written, path=path, client_cwd=new.client_cwd)


def _answer(
    checked: CheckedPipeline, run: FlowRun | None, *, url: str | None
) -> PipelineSubmission:
    count = len(checked.parts)
    jobs = f"{count} job{'s' * (count != 1)}"
    cut = f" The first {_SHOWN} are shown." if count > _SHOWN else ""
    if run:
        summary = f"{run.name} is {run.state.job_state}, {jobs}; job_id {run.id}.{cut}"
    else:
        summary = f"Dry run, nothing was started: pipeline {checked.name}, {jobs}.{cut}"
    return PipelineSubmission(
        summary=summary,
        job_id=run.id if run else None,
        name=run.name if run else checked.name,
        state=run.state.job_state if run else None,
        dry_run=run is None,
        steps=[_planned_step(part) for part in checked.parts[:_SHOWN]],
        warnings=_output_warnings(checked) if run else warnings_of_plan(checked.jobs),
        url=url,
    )


def _output_warnings(checked: CheckedPipeline) -> list[str]:
    """List the findings about the folders that the steps write to."""
    return [
        shorten(f"{one.part.name}: {finding.text}")
        for one in checked.parts
        for finding in one.job.findings
        if finding.code in OUTPUT_CODES
    ][:_WARNINGS]


def _planned_step(checked: CheckedPart) -> PlannedStep:
    part, job = checked.part, checked.job
    return PlannedStep(
        name=part.name,
        command=job.command,
        config_path=shorten(job.request.config_path, limit=_TEXT),
        cloud=job.plan.cloud,
        output_dir=shorten(part.output_dir or job.plan.output_dir or "", limit=_TEXT),
        after=part.after[:5],
        when=shorten(part.when, limit=_TEXT),
    )
