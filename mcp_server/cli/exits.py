"""Exit codes, which scripts rely on."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from flows.core.errors import ErrorCode
from flows.core.states import JobState


class Exit(IntEnum):
    """The exit code of a process."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    JOB_CANCELLED = 3
    NOT_FOUND = 4
    ENGINE_UNAVAILABLE = 5
    OTHER = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done; for watch and run --watch: the job succeeded",
    Exit.JOB_FAILED: "the job failed or crashed; for doctor: something needs fixing",
    Exit.USAGE: "an argument, an option, a setting or a config is wrong, or a check blocks the job",
    Exit.JOB_CANCELLED: "the job was cancelled",
    Exit.NOT_FOUND: "no such job, config or cluster, or the id matches several jobs",
    Exit.ENGINE_UNAVAILABLE: "the Prefect server or the worker does not run or does not answer",
    Exit.OTHER: "any other error",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; a watched job keeps running",
    Exit.PIPE_CLOSED: "the reader of the output closed it",
}

EXIT_CODES: Final = "\n\n".join(
    ["Exit codes:", *(f"{code:d}: {meaning}" for code, meaning in MEANING.items())]
)

EXIT_OF_ERROR: Final[Mapping[ErrorCode, Exit]] = {
    ErrorCode.INVALID_ARGUMENT: Exit.USAGE,
    ErrorCode.INVALID_CONFIG: Exit.USAGE,
    ErrorCode.CONFIG_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.JOB_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.JOB_ALREADY_DONE: Exit.OTHER,
    ErrorCode.AMBIGUOUS_ID: Exit.NOT_FOUND,
    ErrorCode.PREFLIGHT_BLOCKED: Exit.USAGE,
    ErrorCode.CONFIRMATION_REQUIRED: Exit.OTHER,
    ErrorCode.CLOUD_UNAVAILABLE: Exit.OTHER,
    ErrorCode.CLUSTER_NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.CLUSTER_UNREACHABLE: Exit.OTHER,
    ErrorCode.LAUNCH_FAILED: Exit.OTHER,
    ErrorCode.ENGINE_UNAVAILABLE: Exit.ENGINE_UNAVAILABLE,
    ErrorCode.TIMEOUT: Exit.OTHER,
    ErrorCode.READ_ONLY: Exit.OTHER,
    ErrorCode.CONFLICT: Exit.OTHER,
    ErrorCode.INTERNAL: Exit.OTHER,
}

EXIT_OF_STATE: Final[Mapping[JobState, Exit]] = {
    JobState.SUCCEEDED: Exit.OK,
    JobState.FAILED: Exit.JOB_FAILED,
    JobState.CANCELLED: Exit.JOB_CANCELLED,
    JobState.CRASHED: Exit.JOB_FAILED,
}
"""The exit code of a command that followed a job to its end."""
