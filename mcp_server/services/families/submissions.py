"""What submissions of pipelines and sweeps share: arguments, answers and runs."""

from typing import Annotated, Any, Final
from uuid import uuid4

from pydantic import Field

from flows.core import names
from flows.core.configs.reader import read_config, resolve_config_path
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.models import NotifyOn, Value
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.declared_arguments import Argument
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.idempotency import refuse_another_request
from mcp_server.services.jobs.new_job import NOTIFY, NOTIFY_ON
from mcp_server.services.jobs.notifications import notify_tags

_NO_YAML: Final = "is not valid YAML"
_QUOTES: Final = 'a reference in braces needs quotes: {LOSS: "${train.metrics.loss}"}'


Folder = Annotated[str, Argument("Absolute folder.", max_length=4096)]
Receiver = Annotated[str | None, Argument("As for a job.", NOTIFY, max_length=2000)]
ReportedEnds = Annotated[NotifyOn, Argument("As for a job.", NOTIFY_ON)]


class FamilySubmission(Value):
    """A pipeline or a sweep that was started, or would be."""

    summary: str = Field(description="One line a person can read.")
    job_id: str | None = Field(default=None, description="Id of the whole. Null in a dry run.")
    name: str
    state: JobState | None = None
    dry_run: bool
    warnings: list[str] = Field(
        default_factory=list[str],
        description="What pre-flight found; in a dry run also what it skipped.",
    )
    url: str | None = None


async def submit_parent(
    gateway: PrefectGateway,
    *,
    flow: str,
    command: str,
    name: str,
    parameters: dict[str, Any],
    tags: list[str],
    idempotency_key: str | None,
) -> FlowRun:
    """Create the run of a pipeline or sweep, named as jobs are.

    Raises:
        Conflict: The key belongs to another request.
    """
    run = await gateway.create_run(
        name=name,
        parameters=parameters,
        tags=[names.TAG, f"{names.COMMAND_TAG}{command}", *tags],
        # By this label a worker knows that the name still lacks its id.
        labels=RunLabels(attempt=1),
        idempotency_key=idempotency_key or uuid4().hex,
        flow=flow,
        # It waits for no slot: the queue of jobs may be long.
        work_queue=names.CLOUD_QUEUE,
    )
    refuse_another_request(
        idempotency_key,
        run,
        kind=command,
        made_from=(run.parameters, notify_tags(run.tags)),
        asked_for=(parameters, tags),
    )
    full_name = f"{name}-{run.id[:8]}"
    if run.name != full_name:
        await gateway.rename_run(run.id, full_name)
    return run.model_copy(update={"name": full_name})


def read_yaml(path: str, client_cwd: str, what: str) -> tuple[str, dict[str, Any]]:
    """Read a pipeline's or sweep's YAML file: its absolute path and its content.

    Raises:
        ConfigNotFound: There is no such file.
        InvalidConfig: It is no YAML mapping.
    """
    if not path:
        raise InvalidArgument(f"no {what} was given", f"Give {what}_path or its content inline")
    found = resolve_config_path(path, client_cwd)
    try:
        return str(found), read_config(found).data
    except InvalidConfig as error:
        if _NO_YAML not in error.what:
            raise
        raise InvalidConfig(error.what, f"{error.next_step}; {_QUOTES}") from error
