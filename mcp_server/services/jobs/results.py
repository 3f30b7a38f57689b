"""Answers of the use cases, besides `flows.core.models.JobStatus`."""

from datetime import datetime

from pydantic import Field

from flows.core.configs.plan import JobPlan
from flows.core.models import Value
from flows.core.numbers import Number
from flows.core.states import JobState
from mcp_server.services.jobs.syncing import SyncPreview


class DescribedJob(Value):
    """A job that was started or scheduled, or would be."""

    summary: str = Field(description="One line a person can read.")
    name: str
    dry_run: bool
    command: str
    config_path: str
    cloud: str
    cluster_name: str
    model_name: str
    output_dir: str
    url: str | None = Field(default=None, description="Its page in the Prefect UI.")


class Submission(DescribedJob):
    """A job that was started, or would be."""

    job_id: str | None = Field(default=None, description="Null in a dry run.")
    state: JobState | None = Field(default=None, description="Null in a dry run.")
    warnings: list[str] = Field(
        default_factory=list[str], description="What pre-flight found, worst first."
    )
    plan: JobPlan | None = Field(default=None, description="Given in a dry run.")
    sync: SyncPreview | None = Field(
        default=None, description="What would be copied; given in a dry run for a cloud."
    )
    hourly_price: float | None = Field(
        default=None, description="US dollars of all nodes; null: unknown."
    )


class Adoption(Value):
    """A job launched elsewhere that was adopted."""

    summary: str
    job_id: str
    state: JobState
    url: str | None = None


class JobRow(Value):
    """A job in a list."""

    job_id: str
    name: str
    state: JobState
    command: str
    cloud: str
    model_name: str
    created_at: datetime
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: Number | None = None
    cost: float | None = Field(default=None, description="US dollars so far, estimated.")
    budget: str = Field(default="", description="Spent and left, if it has a limit.")
    ram_peak_bytes: float | None = None
    note: str = ""
    tags: list[str] = Field(default_factory=list[str])


class JobList(Value):
    """A page of jobs, newest first."""

    summary: str = Field(description="One line a person can read.")
    jobs: list[JobRow]
    next_cursor: str | None = Field(default=None, description="Null: this is the last page.")


class JobLogs(Value):
    """A part of a job's log."""

    summary: str = Field(description="One line a person can read; says what was cut.")
    job_id: str
    lines_returned: int
    logs: str
    next_cursor: str | None = Field(
        default=None, description="Pass it to the next call to continue."
    )
    at_end: bool = Field(description="True: the job has ended and nothing more follows.")
    log_path: str | None = Field(default=None, description="The whole log, on the worker's disk.")
