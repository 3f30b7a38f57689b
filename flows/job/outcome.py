"""How a job ended, as its flow run records it."""

from typing import NamedTuple

from prefect.client.schemas.objects import State, StateType

from flows.core.prefect_states import state_message, terminal_state
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState, Observation


class Outcome(NamedTuple):
    """Why a job ended, and a sentence for people."""

    reason: TerminationReason
    text: str

    @property
    def state(self) -> "State[None]":
        """The Prefect state to return from the flow."""
        state = terminal_state(self.reason)
        return State(
            type=StateType(state.type),
            name=state.name,
            message=state_message(self.reason, self.text),
        )


def outcome_of(seen: Observation, *, cancelled: bool) -> Outcome:
    """The outcome of a job that has ended, as the launcher reports it.

    Args:
        seen: The last look at the job.
        cancelled: Whether its cancel was requested.
    """
    if seen.state is LauncherState.CANCELLED:
        if cancelled:
            return Outcome(TerminationReason.USER_CANCELLED, "Cancelled on request.")
        # A launcher that gives this reason knows more: the whole cluster is gone.
        says_why = seen.reason is TerminationReason.CANCELLED_EXTERNALLY and seen.message
        text = seen.message if says_why else "Cancelled on the cluster, not by oumi-flows."
        return Outcome(TerminationReason.CANCELLED_EXTERNALLY, text)
    if seen.state is LauncherState.SUCCEEDED:
        outcome = Outcome(TerminationReason.COMPLETED, "The job finished.")
    else:
        reason = seen.reason or TerminationReason.NONZERO_EXIT
        outcome = Outcome(reason, seen.message or "The job failed.")
    return too_late_to_cancel(outcome) if cancelled else outcome


def too_late_to_cancel(outcome: Outcome) -> Outcome:
    """The outcome of a job that ended by itself while its cancel was under way.

    A run that is being cancelled can only end cancelled (prefect 3.9).
    """
    if outcome.reason.job_state is JobState.CANCELLED:
        return outcome
    ended = (
        "finished"
        if outcome.reason is TerminationReason.COMPLETED
        else f"ended ({outcome.reason}: {outcome.text.rstrip('.')})"
    )
    return Outcome(
        TerminationReason.USER_CANCELLED, f"The job had {ended} before the cancel reached it."
    )


def cancelled_before_launch() -> Outcome:
    """The outcome of a job that was cancelled before it was launched."""
    return Outcome(TerminationReason.USER_CANCELLED, "Cancelled before it was launched.")
