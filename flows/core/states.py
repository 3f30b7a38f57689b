"""Job states and the reasons why a job ended."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. A terminal state never changes."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PENDING = "pending"
    LAUNCHING = "launching"
    RUNNING = "running"
    RETRYING = "retrying"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CRASHED = "crashed"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended and will not change state again by itself."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.CRASHED})


class ProcessHolder(StrEnum):
    """What tracks all processes of a local job, and so proves that none is left."""

    CONTROL_GROUP = "control_group"
    PROCESS_TREE = "process_tree"


class TerminationReason(StrEnum):
    """Why a job ended. The job's terminal state derives from it."""

    COMPLETED = "completed"
    USER_CANCELLED = "user_cancelled"
    CANCELLED_EXTERNALLY = "cancelled_externally"
    SKIPPED = "skipped"
    NONZERO_EXIT = "nonzero_exit"
    SETUP_FAILED = "setup_failed"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    PREEMPTED = "preempted"
    LAUNCH_FAILED = "launch_failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    INVALID_CONFIG = "invalid_config"
    UNSTARTABLE = "unstartable"
    DIVERGED = "diverged"
    OVER_BUDGET = "over_budget"

    @property
    def job_state(self) -> JobState:
        """The terminal job state this reason ends in."""
        return _STATE_OF_REASON[self]


_STATE_OF_REASON = {
    TerminationReason.COMPLETED: JobState.SUCCEEDED,
    TerminationReason.USER_CANCELLED: JobState.CANCELLED,
    TerminationReason.CANCELLED_EXTERNALLY: JobState.CANCELLED,
    TerminationReason.SKIPPED: JobState.CANCELLED,
    TerminationReason.NONZERO_EXIT: JobState.FAILED,
    TerminationReason.SETUP_FAILED: JobState.FAILED,
    TerminationReason.OUT_OF_MEMORY: JobState.FAILED,
    TerminationReason.KILLED: JobState.FAILED,
    TerminationReason.PREEMPTED: JobState.FAILED,
    TerminationReason.LAUNCH_FAILED: JobState.FAILED,
    TerminationReason.TIMED_OUT: JobState.FAILED,
    TerminationReason.LOST: JobState.CRASHED,
    TerminationReason.INVALID_CONFIG: JobState.FAILED,
    TerminationReason.UNSTARTABLE: JobState.CRASHED,
    TerminationReason.DIVERGED: JobState.FAILED,
    TerminationReason.OVER_BUDGET: JobState.FAILED,
}


class Health(StrEnum):
    """How a training does."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"
