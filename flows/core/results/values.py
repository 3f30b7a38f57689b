"""What is asked about the results of a job, and the answer."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from flows.core.models import Answer, JobHandle, JobRequest, Value
from flows.core.numbers import Number


class OutputKind(StrEnum):
    """What wrote a file, or what it is for."""

    TRAINING = "training"
    TUNING = "tuning"
    EVALUATION = "evaluation"
    INFERENCE = "inference"
    SYNTHESIS = "synthesis"
    ANALYSIS = "analysis"
    QUANTIZATION = "quantization"
    METRICS = "metrics"
    LOG = "log"
    OTHER = "other"


class Output(Value):
    """A file or folder that a command of a job writes.

    Attributes:
        path: On a cluster it may start from the job's working folder there.
        merges: Whether a training of an adapter saves a whole model.
    """

    path: str
    kind: OutputKind
    is_file: bool = False
    merges: bool = False


class ResultsRequest(Value):
    """The job whose results are wanted.

    Attributes:
        attempt: Number of its last attempt.
        request: What was submitted; None: it was not submitted by oumi-flows.
        handle: Its job on a cluster; None: it runs on the worker's machine.
        output_dir: Folder of results that its run names.
        result_marks: The content of that folder before the job, as its run keeps it.
        own_folder: Name of the folder of this run below its output folder, if it has one.
        log_paths: Logs of its attempts, for the training record.
        work_pool: Work pool whose worker has its files, unless they are on a cluster.
        began_at: When it began, in seconds since the epoch; older files are not its own.
        ended_at: When it ended; None: it has not.
    """

    job_id: str
    attempt: int = 1
    request: JobRequest | None = None
    handle: JobHandle | None = None
    output_dir: str = ""
    result_marks: str = ""
    own_folder: str = ""
    log_paths: list[str] = Field(default_factory=list[str])
    work_pool: str = ""
    began_at: float | None = None
    ended_at: float | None = None


class FoundCheckpoint(Value):
    """A checkpoint."""

    path: str
    step: int
    bytes: int
    whole: bool = Field(description="False: a training cannot resume from it.")
    best: bool = False
    attempt: int | None = None


class FoundModel(Value):
    """A model that is ready for use."""

    path: str
    kind: Literal["full", "adapter", "merged"]
    bytes: int
    base_model: str = Field(default="", description="The model that an adapter needs.")
    quantization: str = Field(default="", description="Method; empty: not quantized.")
    attempt: int | None = None


class FoundScore(Value):
    """A score of an evaluation."""

    task: str
    metric: str
    value: Number
    path: str


class FoundFile(Value):
    """Another file."""

    path: str
    kind: str
    bytes: int
    rows: list[str] = Field(default_factory=list[str], description="The first rows, shortened.")


class BestCheckpoint(Value):
    """Why a checkpoint is the best."""

    step: int
    metric: str
    value: Number | None = None
    source: str = Field(description="What it was read from.")


class JobResults(Answer):
    """What came out of a job."""

    job_id: str
    where: str = Field(description="Machine or cluster of these paths.")
    folders: list[str]
    best_checkpoint: BestCheckpoint | None = None
    checkpoints: list[FoundCheckpoint]
    models: list[FoundModel]
    scores: list[FoundScore]
    files: list[FoundFile]
    total_files: int = 0
    total_bytes: int = 0
    notes: list[str] = Field(default_factory=list[str], description="What is missing or cut.")


class CollectRequest(Value):
    """A copy of a job's results: the parameter of the `collect-results` flow.

    Attributes:
        source: The job.
        source_name: Its name, for people.
        into: Absolute target folder on the worker's machine.
        what: Which results; empty: all.
    """

    source: ResultsRequest
    source_name: str
    into: str
    what: list[str] = Field(default_factory=list[str])
