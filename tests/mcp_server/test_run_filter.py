"""Filters that are asked for most must not make SQLite sort every run there is."""

from flows.core.prefect_states import STATE_OF_TYPE
from flows.core.states import JobState
from mcp_server.prefect_api.run_filter import RunFilter

ENDED = frozenset(state for state in JobState if state.is_terminal)


def test_every_state_is_no_filter() -> None:
    assert RunFilter(states=frozenset(JobState)).body() == RunFilter().body()


def test_jobs_that_have_ended_are_recognised_by_their_end_time() -> None:
    body = RunFilter(states=ENDED).body()
    assert body == {**RunFilter().body(), "end_time": {"is_null_": False}}


def test_one_state_is_filtered_by_its_type_and_names() -> None:
    body = RunFilter(states=frozenset({JobState.RUNNING})).body()
    assert body["state"] == {
        "type": {"any_": ["RUNNING", "PAUSED"]},
        "name": {"not_any_": ["Launching", "PausedWaiting"]},
    }


def test_a_scheduled_job_may_be_a_paused_one_that_has_not_begun() -> None:
    body = RunFilter(states=frozenset({JobState.SCHEDULED})).body()
    assert body["state"]["type"] == {"any_": ["SCHEDULED", "PAUSED"]}
    kept_out = body["state"]["name"]["not_any_"]
    assert {"Late", "AwaitingRetry", "Paused", "Suspended"} <= set(kept_out)
    assert "PausedWaiting" not in kept_out


def test_an_ended_state_is_filtered_by_what_it_is_not() -> None:
    body = RunFilter(states=frozenset({JobState.FAILED})).body()
    kinds = set(STATE_OF_TYPE) - {"FAILED"}
    assert set(body["state"]) == {"type"}
    assert set(body["state"]["type"]) == {"not_any_"}
    assert set(body["state"]["type"]["not_any_"]) == kinds
