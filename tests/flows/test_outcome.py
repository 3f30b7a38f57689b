"""How what the launcher says becomes the end of a run."""

from datetime import UTC, datetime

import pytest

from flows.core.states import JobState, TerminationReason
from flows.job.outcome import Outcome, outcome_of, too_late_to_cancel
from flows.launcher.port import LauncherState, Observation

ENDED = [state for state in LauncherState if state.is_terminal]


def ended(
    state: LauncherState, reason: TerminationReason | None = None, message: str = ""
) -> Observation:
    return Observation(state=state, observed_at=datetime.now(UTC), reason=reason, message=message)


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("cancelled", [False, True])
def test_every_end_has_an_outcome_and_a_cancelled_run_can_only_be_cancelled(
    state: LauncherState, cancelled: bool
) -> None:
    outcome = outcome_of(ended(state), cancelled=cancelled)
    expected = {
        LauncherState.SUCCEEDED: JobState.SUCCEEDED,
        LauncherState.FAILED: JobState.FAILED,
        LauncherState.CANCELLED: JobState.CANCELLED,
    }
    wanted = JobState.CANCELLED if cancelled else expected[state]
    assert outcome.reason.job_state is wanted
    assert outcome.text


@pytest.mark.parametrize(
    "reason", [r for r in TerminationReason if r.job_state in (JobState.FAILED, JobState.CRASHED)]
)
def test_a_failure_keeps_the_launchers_reason_and_words(reason: TerminationReason) -> None:
    seen = ended(LauncherState.FAILED, reason, "It was the node.")
    assert outcome_of(seen, cancelled=False) == Outcome(reason, "It was the node.")


def test_a_failure_the_launcher_does_not_explain_is_a_failure_of_the_job() -> None:
    assert outcome_of(ended(LauncherState.FAILED), cancelled=False) == Outcome(
        TerminationReason.NONZERO_EXIT, "The job failed."
    )


def test_a_cancel_is_ours_only_if_we_were_asked() -> None:
    seen = ended(LauncherState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert outcome_of(seen, cancelled=True).reason is TerminationReason.USER_CANCELLED
    assert outcome_of(seen, cancelled=False).reason is TerminationReason.CANCELLED_EXTERNALLY


def test_a_job_whose_cluster_was_taken_down_says_so() -> None:
    text = "Cluster c1 was taken down before the job was seen to end."
    seen = ended(LauncherState.CANCELLED, TerminationReason.CANCELLED_EXTERNALLY, text)
    assert outcome_of(seen, cancelled=False) == Outcome(
        TerminationReason.CANCELLED_EXTERNALLY, text
    )


def test_a_cancel_that_came_too_late_says_how_the_job_ended() -> None:
    assert too_late_to_cancel(Outcome(TerminationReason.COMPLETED, "The job finished.")) == Outcome(
        TerminationReason.USER_CANCELLED, "The job had finished before the cancel reached it."
    )
    assert too_late_to_cancel(
        Outcome(TerminationReason.NONZERO_EXIT, "It exited with code 3.")
    ).text == (
        "The job had ended (nonzero_exit: It exited with code 3) before the cancel reached it."
    )
    externally = Outcome(TerminationReason.CANCELLED_EXTERNALLY, "From outside.")
    assert too_late_to_cancel(externally) == externally


@pytest.mark.parametrize("reason", TerminationReason)
def test_an_outcome_is_one_prefect_state_that_carries_its_reason(
    reason: TerminationReason,
) -> None:
    state = Outcome(reason, "Why: because.").state
    assert state.is_final()
    assert state.message == f"{reason}: Why: because."
