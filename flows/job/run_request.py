"""The job request of a flow run, and the run's name for people."""

from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError

from flows.core import names
from flows.core.models import JobRequest
from flows.core.run_labels import RunLabels


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
