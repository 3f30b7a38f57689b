"""Counting the attempts of a job."""

from collections.abc import Iterable

from flows.core import names
from flows.core.prefect_states import PrefectState, attempts_over
from mcp_server.prefect_api.models import FlowRun, RunState


def next_attempt(run: FlowRun, states: Iterable[RunState]) -> int:
    """The number of the next attempt of a job that has ended, as its flow will count it.

    Args:
        run: The job.
        states: Every state it has been in, oldest first.
    """
    over = attempts_over(PrefectState(state.type, state.name) for state in states)
    return over + 1 - int(run.labels.get(names.LABEL_ATTEMPTS_TAKEN_BACK, 0))
