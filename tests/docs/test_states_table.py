"""The tables of states and reasons are what the code maps."""

from collections.abc import Callable

import pytest

from flows.core.prefect_states import (
    PREFECT_STATE,
    STATE_OF_NAME,
    PrefectState,
    job_state,
    terminal_state,
)
from flows.core.states import JobState, TerminationReason
from flows.job.retries import RETRY_RULES

TableOf = Callable[[str, str], list[list[str]]]
PAGE = "docs/jobs-and-states.md"


@pytest.fixture
def states(table_of: TableOf) -> dict[JobState, list[PrefectState]]:
    """Of each job state: Prefect's states."""
    rows: dict[JobState, list[PrefectState]] = {}
    for state, prefect, _ in table_of(PAGE, "job state"):
        kinds = [kind.split(" / ") for kind in prefect.split("; ")]
        rows[JobState(state.strip("`"))] = [
            PrefectState(kind, name) for kind, shown in kinds for name in shown.split(", ")
        ]
    return rows


def test_every_job_state_is_listed_in_order(
    states: dict[JobState, list[PrefectState]],
) -> None:
    assert list(states) == list(JobState)


def test_every_prefect_state_listed_maps_to_its_job_state(
    states: dict[JobState, list[PrefectState]],
) -> None:
    listed = {one: state for state, ones in states.items() for one in ones}
    assert {one: job_state(*one) for one in listed} == listed


def test_every_prefect_state_of_ours_is_listed(
    states: dict[JobState, list[PrefectState]],
) -> None:
    listed = {one for ones in states.values() for one in ones}
    assert {
        *PREFECT_STATE.values(),
        *STATE_OF_NAME,
        *map(terminal_state, TerminationReason),
    } <= listed


def test_every_reason_is_listed_with_the_state_it_ends_in(table_of: TableOf) -> None:
    listed = {reason.strip("`"): ends.strip("`") for reason, ends, _ in table_of(PAGE, "reason")}
    assert listed == {reason.value: reason.job_state.value for reason in TerminationReason}


def test_every_reason_but_success_is_listed_with_whether_it_is_retried(table_of: TableOf) -> None:
    listed = dict(table_of(PAGE, "reason the attempt ended for"))
    ours = {f"`{reason}`": retried.value for reason, retried in RETRY_RULES.items()}
    del ours["`completed`"]
    assert listed == ours
