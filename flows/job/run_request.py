"""The job request of a flow run, and the run's name for people."""

from typing import Final, NamedTuple

from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError

from flows.core import names
from flows.core.configs.plan import make_plan
from flows.core.configs.reader import ConfigKind, read_config, resolve_config_path
from flows.core.errors import OumiFlowsError
from flows.core.models import JobRequest
from flows.core.run_labels import RunLabels

_COMMAND: Final = names.COMMAND_TAG


def request_of(run: FlowRun) -> JobRequest | None:
    """The job request; None if the run is not a valid job: its execution reports the error."""
    try:
        return JobRequest.model_validate(run.parameters.get("request"))
    except ValidationError:
        return None


def known_name(run: FlowRun) -> str:
    """The run's name with its short id, which runs made by a schedule or the UI lack."""
    short = str(run.id)[:8]
    labels = RunLabels.read(run.labels)
    request = request_of(run)
    if run.name.endswith(short):
        return run.name
    if labels.run_name:
        return f"{labels.run_name}-{names.firing(run.id, run.expected_start_time)}"
    if labels.attempt is not None:
        # It was submitted a moment ago: its full name needs an id, which it did not have yet.
        return f"{run.name}-{short}"
    if request is None:
        return run.name
    return names.run_name(run.id, command=request.command, model="", job_name=request.job_name)


class Identity(NamedTuple):
    """How a run appears in the Prefect UI.

    Attributes:
        name: Its name.
        tags: All its tags; None: those that it has.
    """

    name: str
    tags: list[str] | None = None


def identify(run: FlowRun) -> Identity:
    """Name and tag a run that begins. Blocking: reads the config of one that the UI started.

    Such a run has neither the name nor the tags that a submission gives, and its command is the
    flow's default even for a job config.
    """
    name, labels, request = known_name(run), RunLabels.read(run.labels), request_of(run)
    is_submitted = labels.attempt is not None or labels.run_name is not None
    if request is None or is_submitted or any(tag.startswith(_COMMAND) for tag in run.tags):
        return Identity(name)
    try:
        config = read_config(resolve_config_path(request.config_path, request.client_cwd))
        plan = make_plan(request, config)
    except OumiFlowsError:
        return Identity(name)  # the run's execution says what is wrong
    is_job = plan.kind is ConfigKind.JOB
    name = names.run_name(
        run.id,
        command=request.command,
        model=plan.model_name,
        job_name=request.job_name or (plan.name if is_job else ""),
    )
    command = names.JOB_COMMAND if is_job else request.command
    tags = names.run_tags(command=command, cloud=request.cloud)
    return Identity(name, sorted({*run.tags, *tags}))
