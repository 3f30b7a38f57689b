"""The job or pipeline that a schedule starts each time."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.core import names
from flows.core.configs.plan import make_plan, with_own_output
from flows.core.configs.reader import ConfigKind, read_config
from flows.core.errors import InvalidArgument
from flows.core.redaction import hide_tokens
from flows.core.run_labels import RunLabels
from mcp_server.services.families.pipeline_checks import CheckedPipeline, keep_pipeline
from mcp_server.services.families.pipelines import NewPipeline, checked_pipeline
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.jobs.plan_warnings import warnings_of_plan
from mcp_server.services.jobs.private_jobs import check_private_job
from mcp_server.services.jobs.reruns import Requested
from mcp_server.services.jobs.submitting import (
    ANY_FIRING,
    CheckedJob,
    config_path_of,
    describe_plan,
    keep_config,
    printable_name,
    refuse_blocked,
    shorten,
    with_notes,
)

_OF_THE_JOB: Final = frozenset(
    {"command", "config_path", "cloud", "cluster_name", "model_name", "output_dir"}
)
_OF_A_PIPELINE: Final = frozenset({"config_path", "client_cwd", "job_name", "notify", "notify_on"})
"""The arguments of a job that also apply to a pipeline."""


class Subject(NamedTuple):
    """A job or pipeline to schedule.

    Attributes:
        flow: The flow that each run is a run of.
        words: Prefix of the names of its runs.
        tags: Tags of its runs.
        labels: Labels of its runs.
        answer: Its fields in an answer.
        warnings: Warnings of a dry run.
        job_config: The whole job config of one job.
        work_queue: Queue of its runs; None: the job deployment's.
        pipeline: The pipeline, if it is one; its steps may notify receivers of their own.
        job: The job, if it writes to the same folder as its config says.
        keep: Copies the configs and returns the parameters of its runs.
    """

    flow: str
    words: str
    tags: list[str]
    labels: RunLabels
    answer: dict[str, Any]
    warnings: list[str]
    job_config: str | None
    work_queue: str | None
    pipeline: CheckedPipeline | None
    job: CheckedJob | None
    keep: Callable[[Path, Mapping[str, list[str]]], dict[str, Any]]


def check_subject(asked: Requested, *, repeats: bool) -> Subject:
    """Make every check of a job or pipeline to schedule that this machine can.

    Args:
        asked: The job; or, if its config is a pipeline's file, that pipeline.
        repeats: Whether it will run several times.

    Raises:
        OumiFlowsError: It cannot be run.
    """
    new = asked.new
    if asked.source is None and new.config_path:
        path = config_path_of(new)
        if "steps" in read_config(path).data:
            return _pipeline(new, str(path))
    return _job(asked, repeats=repeats)


def _job(asked: Requested, *, repeats: bool) -> Subject:
    job = check_private_job(asked.new, asked.source.config if asked.source else None)
    refuse_blocked(job)
    plan = job.plan
    # A single run has no other run whose results it could overwrite.
    own = job.request.own_output or (repeats and plan.kind is ConfigKind.COMMAND)
    request = job.request.model_copy(update={"own_output": own})
    shown = describe_plan(_example(job) if own and not job.request.own_output else job)

    def keep(snapshots_dir: Path, _: Mapping[str, list[str]]) -> dict[str, Any]:
        kept = keep_config(job._replace(request=request), snapshots_dir)
        return {"request": kept.model_dump(mode="json")}

    return Subject(
        flow=names.FLOW_NAME,
        words=job.run_name("").rstrip("-"),
        tags=names.run_tags(command=job.command, cloud=request.cloud),
        labels=RunLabels(
            model_name=shorten(hide_tokens(plan.model_name)) or None,
            output_dir=plan.output_dir or None,
        ).with_changes(asked.source.labels if asked.source else RunLabels()),
        answer={key: getattr(shown, key) for key in _OF_THE_JOB},
        warnings=with_notes(shown, asked).warnings,
        job_config=shown.plan.job_config if shown.plan else None,
        work_queue=None,
        pipeline=None,
        job=None if own else job,
        keep=keep,
    )


def _example(job: CheckedJob) -> CheckedJob:
    """Make the job of a sample run."""
    request = with_own_output(job.request, job.config, ANY_FIRING)
    return job._replace(request=request, plan=make_plan(request, job.config))


def _pipeline(new: NewJob, path: str) -> Subject:
    nothing = NewJob()
    alien = [
        key
        for key in NewJob.model_fields
        if key not in _OF_A_PIPELINE and getattr(new, key) != getattr(nothing, key)
    ]
    if alien:
        raise InvalidArgument(
            f"{', '.join(sorted(alien))} is for a job, and {path} is a pipeline",
            "Write it in its steps",
        )
    checked = checked_pipeline(
        NewPipeline(
            pipeline_path=path,
            client_cwd=new.client_cwd,
            notify=new.notify,
            notify_on=new.notify_on,
        )
    )

    def keep(snapshots_dir: Path, tags: Mapping[str, list[str]]) -> dict[str, Any]:
        return {"pipeline": keep_pipeline(checked, snapshots_dir, tags).model_dump(mode="json")}

    nowhere = dict.fromkeys(_OF_THE_JOB, "")
    return Subject(
        flow=names.PIPELINE_FLOW,
        words=printable_name(new.job_name) or checked.name,
        tags=[names.TAG, f"{names.COMMAND_TAG}{names.PIPELINE_COMMAND}"],
        labels=RunLabels(),
        answer={**nowhere, "command": names.PIPELINE_COMMAND, "config_path": path},
        warnings=warnings_of_plan(checked.jobs),
        job_config=None,
        work_queue=names.CLOUD_QUEUE,  # it waits for no slot
        pipeline=checked,
        job=None,
        keep=keep,
    )
