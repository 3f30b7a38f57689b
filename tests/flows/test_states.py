"""The tables between Prefect's states and ours are total, and a message survives both ways."""

import pytest
from prefect.client.schemas.objects import TERMINAL_STATES, State, StateType
from prefect.states import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    Suspended,
)

from flows.core.prefect_states import (
    PREFECT_STATE,
    STATE_OF_NAME,
    STATE_OF_TYPE,
    TERMINAL_TYPES,
    PrefectState,
    attempts_over,
    job_state,
    read_message,
    state_message,
    terminal_state,
)
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState


def test_every_state_type_of_prefect_is_a_job_state() -> None:
    assert set(STATE_OF_TYPE) == {kind.value for kind in StateType}


def test_a_state_type_is_terminal_for_us_exactly_where_it_is_for_prefect() -> None:
    assert {kind.value for kind in TERMINAL_STATES} == TERMINAL_TYPES


def test_every_job_state_is_a_prefect_state_and_back() -> None:
    assert {state: job_state(*PREFECT_STATE[state]) for state in JobState} == {
        state: state for state in JobState
    }


def test_names_refine_their_type_and_never_make_it_terminal() -> None:
    for state in STATE_OF_NAME:
        assert not STATE_OF_TYPE[state.type].is_terminal
        assert not STATE_OF_NAME[state].is_terminal


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Scheduled(), JobState.SCHEDULED),
        (Late(), JobState.QUEUED),
        (AwaitingConcurrencySlot(), JobState.QUEUED),
        (AwaitingRetry(), JobState.RETRYING),
        (Pending(), JobState.PENDING),
        (Pending(name="Submitting"), JobState.PENDING),
        (Running(), JobState.RUNNING),
        (Running(name="Launching"), JobState.LAUNCHING),
        (Retrying(), JobState.RUNNING),
        (Paused(), JobState.RUNNING),
        (Suspended(), JobState.RUNNING),
        (Cancelling(), JobState.CANCELLING),
        (Completed(), JobState.SUCCEEDED),
        (Completed(name="Anything"), JobState.SUCCEEDED),
        (Failed(), JobState.FAILED),
        (Failed(name="TimedOut"), JobState.FAILED),
        (Cancelled(), JobState.CANCELLED),
        (Crashed(), JobState.CRASHED),
    ],
    ids=lambda value: f"{value.type.value}-{value.name}" if isinstance(value, State) else "",
)
def test_prefects_own_states_are_understood(state: "State[None]", expected: JobState) -> None:
    assert job_state(state.type.value, state.name or "") is expected


@pytest.mark.parametrize("reason", TerminationReason)
def test_every_reason_ends_in_a_terminal_state_and_is_read_back_from_it(
    reason: TerminationReason,
) -> None:
    assert reason.job_state.is_terminal
    state = terminal_state(reason)
    assert job_state(*state) is reason.job_state
    assert state.type in TERMINAL_TYPES
    text = "It ended: as it did."
    assert read_message(*state, state_message(reason, text)) == (reason, text)


def test_exactly_four_job_states_are_terminal() -> None:
    assert {state for state in JobState if state.is_terminal} == {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.CRASHED,
    }
    assert {reason.job_state for reason in TerminationReason} == {
        state for state in JobState if state.is_terminal
    }


def test_a_launchers_job_is_live_or_ended() -> None:
    live = {state for state in LauncherState if not state.is_terminal}
    assert live == {LauncherState.PENDING, LauncherState.RUNNING}


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        (("COMPLETED", "Completed"), None, (TerminationReason.COMPLETED, "")),
        (("COMPLETED", "Completed"), "All states completed.",
         (TerminationReason.COMPLETED, "All states completed.")),
        (("CANCELLED", "Cancelled"), None, (TerminationReason.USER_CANCELLED, "")),
        (("CANCELLED", "Cancelled"), "Set in the UI: by Ann",
         (TerminationReason.USER_CANCELLED, "Set in the UI: by Ann")),
        (("CRASHED", "Crashed"), "Execution was aborted.",
         (TerminationReason.LOST, "Execution was aborted.")),
        (("FAILED", "Failed"), "Flow run encountered an exception: ValueError: x",
         (TerminationReason.LAUNCH_FAILED, "Flow run encountered an exception: ValueError: x")),
        (("FAILED", "TimedOut"), "Flow run exceeded timeout",
         (TerminationReason.TIMED_OUT, "Flow run exceeded timeout")),
        # A reason of ours under a state it does not end in was not written by us.
        (("FAILED", "Failed"), "completed: so they say",
         (TerminationReason.LAUNCH_FAILED, "completed: so they say")),
        (("RUNNING", "Running"), "completed: not yet", (None, "completed: not yet")),
        (("SCHEDULED", "AwaitingRetry"), "preempted: again", (None, "preempted: again")),
        (("RUNNING", "Running"), None, (None, "")),
    ],
)  # fmt: skip
def test_a_state_that_prefect_or_a_person_set_has_the_reason_that_follows_from_it(
    state: tuple[str, str],
    message: str | None,
    expected: tuple[TerminationReason | None, str],
) -> None:
    assert read_message(*state, message) == expected


SCHEDULED = PrefectState("SCHEDULED", "Scheduled")
QUEUED = PrefectState("SCHEDULED", "Late")
RETRY = PrefectState("SCHEDULED", "AwaitingRetry")
PENDING = PrefectState("PENDING", "Pending")
LAUNCHING = PrefectState("RUNNING", "Launching")
RUNNING = PrefectState("RUNNING", "Running")
PAUSED = PrefectState("PAUSED", "Paused")
CANCELLING = PrefectState("CANCELLING", "Cancelling")
FAILED = PrefectState("FAILED", "Failed")
CANCELLED = PrefectState("CANCELLED", "Cancelled")
CRASHED = PrefectState("CRASHED", "Crashed")
START = [SCHEDULED, PENDING, LAUNCHING, RUNNING]
AGAIN = [RETRY, PENDING, LAUNCHING, RUNNING]


@pytest.mark.parametrize(
    ("history", "over"),
    [
        ([], 0),
        (START, 0),
        ([*START, RUNNING, RUNNING], 0),
        ([SCHEDULED, QUEUED, PENDING, LAUNCHING], 0),
        ([*START, FAILED, *AGAIN], 1),
        ([*START, FAILED, SCHEDULED, QUEUED, PENDING, RUNNING], 1),
        ([*START, *AGAIN], 1),
        ([*START, PAUSED, *AGAIN], 1),
        ([*START, *AGAIN, *AGAIN, FAILED], 3),
        ([*START, CRASHED, *AGAIN, RUNNING], 1),
        ([*START, CANCELLING, CANCELLED, *AGAIN], 1),
        ([*START, CANCELLED, FAILED, *AGAIN], 1),
        ([SCHEDULED, CANCELLED, *AGAIN], 0),
        ([SCHEDULED, PENDING, CANCELLING, CANCELLED, SCHEDULED, PENDING, RUNNING], 0),
        ([*START, RETRY, CANCELLING, CANCELLED, *AGAIN], 1),
    ],
    ids=[
        "no state yet",
        "first start",
        "adopted",
        "queued",
        "retried in the UI",
        "rescheduled through the API",
        "put back by the flow",
        "paused, then put back",
        "put back twice, then failed",
        "crashed, retried, adopted",
        "cancelled, retried",
        "concluded twice",
        "cancelled while scheduled",
        "cancelled while pending",
        "cancelled while waiting for its retry",
    ],
)
def test_attempts_are_counted_from_the_history(history: list[PrefectState], over: int) -> None:
    assert attempts_over(history) == over
