"""Total tables between Prefect's states and ours.

Prefect's state types are written as their strings, so that the MCP server can read them
without importing Prefect; a test walks every member of Prefect's own enumeration.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from flows.core.states import JobState, TerminationReason


class PrefectState(NamedTuple):
    """A Prefect state type (``RUNNING``) and state name (``Launching``)."""

    type: str
    name: str


STATE_OF_TYPE: Final[dict[str, JobState]] = {
    "SCHEDULED": JobState.SCHEDULED,
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    # The job of a paused run is frozen, or about to be: it has not ended.
    "PAUSED": JobState.RUNNING,
    "CANCELLING": JobState.CANCELLING,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "CRASHED": JobState.CRASHED,
}

PAUSED: Final = PrefectState("PAUSED", "Paused")
"""A run whose job is frozen."""
SUSPENDED: Final = PrefectState("PAUSED", "Suspended")
"""What Pause of the Prefect UI sets, before the worker has frozen the job (prefect 3.9)."""
RESUMING: Final = PrefectState("SCHEDULED", "Resuming")
"""What Prefect makes of a suspended run that is resumed, before the worker has read it."""
PAUSED_WAITING: Final = PrefectState("PAUSED", "PausedWaiting")
"""A run that was paused while it waited, so that it has no job."""

STATE_OF_NAME: Final[dict[PrefectState, JobState]] = {
    PrefectState("SCHEDULED", "AwaitingConcurrencySlot"): JobState.QUEUED,
    PrefectState("SCHEDULED", "Late"): JobState.QUEUED,
    PrefectState("SCHEDULED", "AwaitingRetry"): JobState.RETRYING,
    PrefectState("SCHEDULED", "Retrying"): JobState.RETRYING,
    PrefectState("RUNNING", "Launching"): JobState.LAUNCHING,
    PAUSED: JobState.RUNNING,
    SUSPENDED: JobState.RUNNING,
    PAUSED_WAITING: JobState.SCHEDULED,
}

PREFECT_STATE: Final[dict[JobState, PrefectState]] = {
    JobState.SCHEDULED: PrefectState("SCHEDULED", "Scheduled"),
    JobState.QUEUED: PrefectState("SCHEDULED", "AwaitingConcurrencySlot"),
    JobState.PENDING: PrefectState("PENDING", "Pending"),
    JobState.LAUNCHING: PrefectState("RUNNING", "Launching"),
    JobState.RUNNING: PrefectState("RUNNING", "Running"),
    JobState.RETRYING: PrefectState("SCHEDULED", "AwaitingRetry"),
    JobState.CANCELLING: PrefectState("CANCELLING", "Cancelling"),
    JobState.SUCCEEDED: PrefectState("COMPLETED", "Completed"),
    JobState.FAILED: PrefectState("FAILED", "Failed"),
    JobState.CANCELLED: PrefectState("CANCELLED", "Cancelled"),
    JobState.CRASHED: PrefectState("CRASHED", "Crashed"),
}

TERMINAL_TYPES: Final = frozenset(t for t, state in STATE_OF_TYPE.items() if state.is_terminal)

_NAME_OF_REASON = {
    TerminationReason.TIMED_OUT: "TimedOut",
    TerminationReason.PREEMPTED: "Preempted",
}
_REASON_OF_NAME = {name: reason for reason, name in _NAME_OF_REASON.items()}
_DEFAULT_REASON = {
    JobState.SUCCEEDED: TerminationReason.COMPLETED,
    JobState.CANCELLED: TerminationReason.USER_CANCELLED,
    JobState.FAILED: TerminationReason.LAUNCH_FAILED,
    JobState.CRASHED: TerminationReason.LOST,
}


def job_state(state_type: str, state_name: str) -> JobState:
    """The job state of a Prefect state; an unknown name falls back to its type.

    Raises:
        KeyError: The state type is not one of Prefect's.
    """
    return STATE_OF_NAME.get(PrefectState(state_type, state_name)) or STATE_OF_TYPE[state_type]


def terminal_state(reason: TerminationReason) -> PrefectState:
    """The terminal Prefect state of a job that ended for `reason`."""
    state = PREFECT_STATE[reason.job_state]
    return PrefectState(state.type, _NAME_OF_REASON.get(reason, state.name))


def state_message(reason: TerminationReason, text: str) -> str:
    """The message of a terminal state: the reason, then a sentence for people.

    Prefect stores type, name and message of a state in one write, so reason and state are always
    recorded together.
    """
    return f"{reason}: {text}"


def read_message(
    state_type: str, state_name: str, message: str | None
) -> tuple[TerminationReason | None, str]:
    """The termination reason (None while not terminal) and the sentence of a state's message.

    States set by Prefect itself, or by a person in its UI or CLI, carry no reason of ours; the
    reason then follows from the state.
    """
    head, colon, text = (message or "").partition(": ")
    known = head in TerminationReason.__members__.values()
    state = job_state(state_type, state_name)
    if not state.is_terminal:
        return None, message or ""
    if colon and known and TerminationReason(head).job_state is state:
        return TerminationReason(head), text
    return _REASON_OF_NAME.get(state_name) or _DEFAULT_REASON[state], message or ""


def attempts_over(history: Iterable[PrefectState]) -> int:
    """Count the attempts of a job that are over, from all states of its flow run, oldest first.

    An attempt is over once a run that had begun reached a terminal state or waits for a retry. A
    run that ended before it began used no attempt.
    """
    over = 0
    begun = False
    for state in history:
        put_back = state == PREFECT_STATE[JobState.RETRYING]
        if begun and (put_back or state.type in TERMINAL_TYPES):
            over += 1
            begun = False
        begun |= state.type == "RUNNING"
    return over
