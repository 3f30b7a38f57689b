"""The tables of states and reasons are what the code maps."""

from collections.abc import Callable

import pytest

from flows.core.prefect_states import PREFECT_STATE, STATE_OF_NAME, job_state, terminal_state
from flows.core.states import JobState, TerminationReason
from flows.job.retries import RETRY_RULES

TableOf = Callable[[str, str], list[list[str]]]
PAGE = "docs/jobs-and-states.md"


@pytest.fixture
def states(table_of: TableOf) -> dict[JobState, tuple[str, list[str]]]:
    """Of each job state: Prefect's type, and its names."""
    rows: dict[JobState, tuple[str, list[str]]] = {}
    for state, prefect, _ in table_of(PAGE, "job state"):
        kind, _, shown = prefect.partition(" / ")
        rows[JobState(state.strip("`"))] = (kind, shown.split(", "))
    return rows


def test_every_job_state_is_listed_in_order(
    states: dict[JobState, tuple[str, list[str]]],
) -> None:
    assert list(states) == list(JobState)


def test_every_prefect_state_listed_maps_to_its_job_state(
    states: dict[JobState, tuple[str, list[str]]],
) -> None:
    mapped = {(k, n): job_state(k, n) for k, names in states.values() for n in names}
    listed = {(k, n): state for state, (k, names) in states.items() for n in names}
    assert mapped == listed


def test_every_prefect_state_of_ours_is_listed(
    states: dict[JobState, tuple[str, list[str]]],
) -> None:
    listed = {(kind, name) for kind, names in states.values() for name in names}
    ours = {*PREFECT_STATE.values(), *STATE_OF_NAME, *map(terminal_state, TerminationReason)}
    assert {(state.type, state.name) for state in ours} <= listed


def test_every_reason_is_listed_with_the_state_it_ends_in(table_of: TableOf) -> None:
    listed = {reason.strip("`"): ends.strip("`") for reason, ends, _ in table_of(PAGE, "reason")}
    assert listed == {reason.value: reason.job_state.value for reason in TerminationReason}


def test_every_reason_but_success_is_listed_with_whether_it_is_retried(table_of: TableOf) -> None:
    listed = dict(table_of(PAGE, "reason the attempt ended for"))
    ours = {f"`{reason}`": retried.value for reason, retried in RETRY_RULES.items()}
    del ours["`completed`"]
    assert listed == ours
