"""Counting the attempts of a job."""

from collections.abc import Iterable

from flows.prefect_states import PREFECT_STATE
from flows.states import JobState
from mcp_server.prefect_models import FlowRun, RunState


def next_attempt(run: FlowRun, states: Iterable[RunState]) -> int:
    """The number of the next attempt of a job that has ended, as its flow will count it.

    Args:
        run: The job.
        states: Every state it has been in, oldest first.
    """
    if run.run_count == 0:
        return run.attempt  # it never started, so its next attempt is still this one
    over = 0
    previous: RunState | None = None
    for state in states:
        put_back = state.name == PREFECT_STATE[JobState.RETRYING].name
        broken_off = put_back and previous is not None and previous.type == "RUNNING"
        over += state.job_state.is_terminal or broken_off
        previous = state
    return over + 1
