"""The parts of Prefect's answers that the gateway reads; it ignores the others."""

from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from flows.core import names, prefect_states
from flows.core.run_labels import RunLabels
from flows.core.states import JobState

_SHORT_ID: Final = 8


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def _known_type(text: str) -> str:
    if text not in prefect_states.STATE_OF_TYPE:
        raise ValueError("not a state type of Prefect")
    return text


def _read_labels(labels: object) -> object:
    return RunLabels.read(cast("dict[str, object]", labels)) if isinstance(labels, dict) else labels


_Labels = Annotated[RunLabels, BeforeValidator(_read_labels)]


class RunState(_Answer):
    """One state of a flow run."""

    type: Annotated[str, AfterValidator(_known_type)]
    name: str
    message: str | None = None
    timestamp: AwareDatetime

    @property
    def job_state(self) -> JobState:
        """The job state of this Prefect state."""
        return prefect_states.job_state(self.type, self.name)


class JudgedState(_Answer):
    """Prefect's answer to a proposed state."""

    state: RunState | None = None


class Creator(_Answer):
    """What created a run, such as a schedule."""

    id: str | None = None


class FlowRun(_Answer):
    """A flow run: the durable record of a job."""

    id: str
    name: str
    created: AwareDatetime
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    expected_start_time: AwareDatetime
    state: RunState
    run_count: int = 0
    idempotency_key: str | None = None
    auto_scheduled: bool = False
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    infrastructure_pid: str | None = None
    created_by: Creator | None = None
    tags: list[str] = []
    labels: _Labels = RunLabels()
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def command(self) -> str | None:
        """The command that the run's tags name."""
        prefix = names.COMMAND_TAG
        return next((tag.removeprefix(prefix) for tag in self.tags if tag.startswith(prefix)), None)

    @property
    def worker_name(self) -> str:
        """The worker that executes it, as `flows.worker.ownership` writes it; empty: unknown."""
        return (self.infrastructure_pid or "").rpartition("/")[0]

    @property
    def own_tags(self) -> list[str]:
        """The tags that people gave it."""
        return sorted(tag for tag in self.tags if not names.is_own_tag(tag))

    @property
    def has_parts(self) -> bool:
        """Whether it is a pipeline or a sweep."""
        return self.command in (names.PIPELINE_COMMAND, names.SWEEP_COMMAND)

    @property
    def attempt(self) -> int:
        """The number of the current attempt, from 1."""
        return self.labels.attempt or 1


class DeploymentSchedule(_Answer):
    """One of a deployment's schedules."""

    id: str
    active: bool = True
    schedule: dict[str, Any]
    slug: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])


class Deployment(_Answer):
    """A deployment: the template of runs, with or without a schedule.

    A schedule that a person gave to one of our deployments in the Prefect UI has this form, too,
    with its own id, and the deployment's as `host_id`.
    """

    id: str
    host_id: str | None = None
    name: str
    flow_id: str
    paused: bool = False
    schedules: list[DeploymentSchedule] = []
    tags: list[str] = []
    labels: _Labels = RunLabels()
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    entrypoint: str | None = None
    path: str | None = None
    pull_steps: list[dict[str, Any]] | None = None
    parameter_openapi_schema: dict[str, Any] | None = None
    work_pool_name: str | None = None

    @property
    def deployment_id(self) -> str:
        """The id of the deployment itself."""
        return self.host_id or self.id

    def guests(self) -> "list[Deployment]":
        """The schedules that a person gave it in the Prefect UI."""
        return [
            self.model_copy(
                update={
                    "id": one.id,
                    "host_id": self.id,
                    "name": one.slug or f"{self.name}-{one.id[:_SHORT_ID]}",
                    "schedules": [one],
                    "parameters": {**self.parameters, **one.parameters},
                }
            )
            for one in self.schedules
        ]


class Artifact(_Answer):
    """An artifact of a flow run."""

    flow_run_id: str | None = None
    data: Any = None
    metadata: Annotated[dict[str, str], BeforeValidator(lambda known: known or {})] = Field(
        default_factory=dict[str, str], alias="metadata_"
    )


class LogLine(_Answer):
    """A line of a flow run's log in Prefect."""

    timestamp: AwareDatetime
    message: str


class Identified(_Answer):
    """An object of which only the id matters."""

    id: str


class BlockSchema(_Answer):
    """The schema of a type of blocks."""

    capabilities: list[str] = []


class BlockDocument(_Answer):
    """A block: a receiver of notifications, with its secrets left out."""

    id: str
    name: str
    block_schema: BlockSchema = BlockSchema()

    def has_capability(self, name: str) -> bool:
        """Whether blocks of its type can do something."""
        return name in self.block_schema.capabilities


class Automation(_Answer):
    """An automation: what Prefect does at an event."""

    id: str
    name: str
    created: AwareDatetime


class WorkPool(_Answer):
    """A work pool."""

    name: str


class PoolWorker(_Answer):
    """A worker of a work pool."""

    name: str
    status: str
    last_heartbeat_time: AwareDatetime | None = None

    @property
    def is_online(self) -> bool:
        """Whether Prefect counts on its next heartbeat."""
        return self.status == "ONLINE"
