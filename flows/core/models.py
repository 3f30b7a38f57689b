"""Values passed between the MCP server, Prefect and a worker. Light imports only."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.core.names import LOCAL_CLOUD
from flows.core.numbers import Number
from flows.core.states import Health, JobState, ProcessHolder, TerminationReason


class Command(StrEnum):
    """The Oumi commands a job can run; `oumi <command> -c CONFIG`."""

    TRAIN = "train"
    ANALYZE = "analyze"
    SYNTH = "synth"
    EVALUATE = "evaluate"
    INFER = "infer"
    TUNE = "tune"
    QUANTIZE = "quantize"
    JUDGE = "judge"


class RetryCause(StrEnum):
    """Ends of an attempt that are retried only on request; values of `TerminationReason`."""

    NONZERO_EXIT = TerminationReason.NONZERO_EXIT
    TIMED_OUT = TerminationReason.TIMED_OUT


class StopOn(StrEnum):
    """The health of a running training at which its job is stopped."""

    BAD = "bad"


class Overlap(StrEnum):
    """What happens to a schedule's run while the previous one has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class NotifyOn(StrEnum):
    """What of a job sends a notification: its end, a bad end, also bad health while it runs."""

    END = "end"
    FAILURE = "failure"
    BAD = "bad"


GpuCount = Annotated[int, Field(ge=1, le=1024)] | Literal["all"]
"""GPUs of a job: a number, or all of the machine."""

OverrideValue = str | int | float | bool | None | list[str | int | float | bool | None]


class Value(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(Value):
    """A worker's answer to a question of the MCP server."""

    summary: str = Field(description="One line a person can read.")


class JobRequest(Value):
    """A submitted job: the parameter of the `oumi-job` flow."""

    config_path: str = Field(description="Absolute path of the Oumi config (YAML).")
    client_cwd: str = Field(description="Absolute folder that relative paths start from.")
    command: Command = Field(
        default=Command.TRAIN, description="Oumi command; ignored for job configs."
    )
    cloud: str = Field(default=LOCAL_CLOUD, description="Oumi cloud the job runs on.")
    cluster_name: str = Field(default="", description="Cluster; empty: the cloud's default.")
    job_name: str = Field(default="", description="A name for people; empty: derived.")
    overrides: dict[str, OverrideValue] = Field(
        default_factory=dict[str, OverrideValue],
        description="Dotted Oumi keys and the values that replace the config's.",
    )
    envs: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Environment variables of the job, over those of its config.",
    )
    gpus: GpuCount | None = Field(
        default=None,
        description="GPUs of this machine for the job, a training process on each. None: one share "
        "of the machine, in one process.",
    )
    launcher_job_id: str | None = Field(
        default=None,
        description="The launcher's id of a job that is running already, to follow it instead of "
        "launching one.",
    )
    max_retries: Annotated[int, Field(ge=0, le=100)] = 0
    retry_on: list[RetryCause] = Field(
        default_factory=list[RetryCause],
        description="Extra causes to retry, besides lost machines.",
    )
    timeout_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Limit of one attempt, from when it runs. None: no limit."
    )
    max_cost: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="US dollars that all attempts may cost. None: no limit."
    )
    max_gpu_hours: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="GPU-hours that all attempts may take. None: no limit."
    )
    whole_cost: float | None = Field(
        default=None, description="US dollars of the whole pipeline or sweep it belongs to."
    )
    whole_gpu_hours: float | None = Field(default=None, description="Its GPU-hours.")
    whole_jobs: int | None = Field(default=None, description="How many jobs it may start.")
    stop_on: list[StopOn] = Field(
        default_factory=list[StopOn],
        description="Health of the running training at which the job is stopped.",
    )
    autostop_minutes: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Idle minutes after which the cluster stops itself. None: the cloud's default.",
    )
    skip_preflight: bool = False
    own_output: bool = Field(
        default=False, description="Results go to a folder of this run below the config's."
    )
    config_sha256: str | None = Field(
        default=None,
        description="Hash of the config as submitted; names its copy under OUMI_FLOWS_HOME.",
    )


class JobProgress(Value):
    """A job's progress, from its own output."""

    step: int | None = None
    max_steps: int | None = None
    percent: float | None = None
    loss: Number | None = None
    eta_seconds: float | None = None


class GpuUsage(Value):
    """What a GPU does."""

    utilization_percent: float | None = None
    memory_bytes: float | None = Field(default=None, description="Of all processes on the GPU.")
    power_watts: float | None = None


class Usage(Value):
    """What a job uses of its machine; values that are not known are null."""

    start: Literal["warm", "cold"] | None = Field(
        default=None, description="Whether Oumi was imported already as the job's command began."
    )

    ram_bytes: float | None = Field(
        default=None, description="Resident memory of all processes; shared pages count for each."
    )
    ram_peak_bytes: float | None = None
    cpu_seconds: float | None = None
    disk_written_bytes: float | None = None
    gpus: list[GpuUsage] = Field(default_factory=list[GpuUsage])


class JobPart(Value):
    """A job that a pipeline or a sweep consists of."""

    name: str
    state: str = Field(description="A job state, or waiting, skipped, not run, stopped.")
    value: Number | None = Field(default=None, description="A trial's metric.")
    note: str = ""
    job_id: str | None = None
    cost: float | None = Field(default=None, description="US dollars so far, estimated.")


class JobBudget(Value):
    """What a job with a limit spent, over all attempts, and what it may still spend."""

    cost: float | None = Field(default=None, description="US dollars; null: no price is known.")
    gpu_hours: float
    left_cost: float | None = None
    left_gpu_hours: float | None = None

    @property
    def words(self) -> str:
        """It for people."""
        if self.cost is not None and self.left_cost is not None:
            return f"${self.cost:,.2f} spent, ${self.left_cost:,.2f} left"
        left = self.left_gpu_hours
        return f"{self.gpu_hours:.3g} GPU-hours spent" + (
            "" if left is None else f", {left:.3g} left"
        )


class JobStatus(Value):
    """One timestamped observation of a job.

    Attributes:
        resumed_from_step: Step of the checkpoint that this attempt went on from.
        usage: What a local job uses.
        processes_held_by: What proves that no process of a local job is left.
        part_of: The pipeline or sweep it belongs to.
        from_job: The job that it runs again.
        tags: Tags that people gave it.
        url: The job's page in the Prefect UI.
    """

    summary: str = Field(description="One line a person can read.")
    job_id: str
    name: str
    state: JobState
    is_done: bool
    reachable: bool = Field(description="False: the cluster did not answer; the last known state.")
    observed_at: datetime
    termination_reason: TerminationReason | None = None
    message: str = ""
    command: str = ""
    config_path: str = ""
    cloud: str = ""
    cluster_name: str = ""
    launcher_job_id: str | None = None
    model_name: str = ""
    output_dir: str = ""
    attempt: int = 1
    resumed_from_step: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    progress: JobProgress = JobProgress()
    health: Health = Field(
        default=Health.UNKNOWN, description="How the training does; diagnose_job says why."
    )
    usage: Usage | None = None
    error_tail: str = Field(default="", description="Last lines of a job that failed.")
    log_path: str | None = None
    processes_held_by: ProcessHolder | None = None
    parts: list[JobPart] = Field(
        default_factory=list[JobPart], description="Steps of a pipeline, trials of a sweep."
    )
    part_of: str | None = None
    from_job: str | None = None
    note: str = ""
    tags: list[str] = Field(default_factory=list[str])
    cost: float | None = Field(
        default=None, description="US dollars so far, estimated; null: no price is known."
    )
    budget: JobBudget | None = Field(default=None, description="Null: it has no limit.")
    url: str | None = None


class ClusterState(StrEnum):
    """The state of a cluster; a cluster that is gone is not listed."""

    LAUNCHING = "launching"
    UP = "up"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ClusterStatus(Value):
    """One observation of a cluster. Unknown values are None, such as the price of a Slurm node."""

    cloud: str
    cluster_name: str
    state: ClusterState
    live_jobs: list[str] | None = Field(
        default=None, description="Launcher job ids of jobs not ended; null: not known."
    )
    nodes: int | None = None
    resources: str = ""
    hourly_cost: float | None = Field(default=None, description="US dollars, of all nodes.")
    uptime_seconds: float | None = None
    cost_so_far: float | None = Field(default=None, description="US dollars, estimated.")
    autostop_minutes: int | None = Field(
        default=None, description="Idle minutes after which it stops itself."
    )


class ClusterList(Answer):
    """The clusters there are."""

    clusters: list[ClusterStatus]
    unavailable: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Clouds that did not list their clusters, and why.",
    )


class ClusterEnd(Answer):
    """A cluster that is confirmed to be stopped or gone."""

    cloud: str
    cluster_name: str
    state: Literal["stopped", "gone"]


class Pruned(Answer):
    """Ended jobs that were removed with their files, or would be."""

    done: bool = Field(description="False: a preview that changed nothing.")
    ended_before: datetime
    runs: int = Field(description="Jobs; a pipeline or a sweep counts once.")
    files: int = Field(description="Folders and files of jobs on the worker's machine.")
    file_bytes: int = Field(description="Their size.")


class ExternalJob(Answer):
    """One observation of a job that oumi-flows did not launch, by the launcher's own id."""

    cloud: str
    cluster_name: str
    launcher_job_id: str
    state: JobState
    observed_at: datetime
    termination_reason: TerminationReason | None = None
    message: str = ""


class LogRequest(Value):
    """The part of a log to read.

    Attributes:
        lines: Lines at most.
        max_bytes: Bytes at most.
        offset: The end of an earlier part; None: the tail.
        grep: Regular expression that each line contains.
    """

    lines: int
    max_bytes: int
    offset: int | None = None
    grep: str | None = None


class ExternalLog(Answer):
    """A part of the log of a job that oumi-flows did not launch."""

    state: JobState
    lines: list[str]
    next_offset: int
    at_end: bool
    notes: list[str] = []
    log_path: str


class JobHandle(Value):
    """The launcher-side identity of one attempt of a job."""

    cloud: str
    cluster_name: str
    launcher_job_id: str
