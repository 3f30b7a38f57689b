"""When a run that meets errors is tried again, and when it is given up."""

from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort, ObjectNotFound

from flows.core.states import TerminationReason
from flows.worker.repeated_errors import RepeatedErrors, cause_of, is_given_up, outcome_for


def raised(message: str) -> ValueError:
    """An error, always raised in one place."""
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


def answer(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://server")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status))


def let_go(cause: Exception | None) -> Abort:
    signal = Abort("let go")
    signal.__cause__ = cause
    return signal


def run_of(**labels: object) -> FlowRun:
    request = {"config_path": "/c.yaml", "client_cwd": "/"}
    return FlowRun(flow_id=uuid4(), parameters={"request": request}, labels=labels)  # type: ignore[arg-type]


async def test_only_the_same_error_in_a_row_counts() -> None:
    errors = RepeatedErrors(pause_seconds=5)
    run_id = uuid4()

    def count(error: Exception, *, is_cancel: bool = False, seconds: float = 1) -> int:
        return errors.add(run_id, error, is_cancel=is_cancel, lasted_seconds=seconds).times

    assert [count(raised(f"at 0x{n}")) for n in range(3)] == [1, 2, 3]
    assert count(TypeError("another")) == 1
    assert [count(raised("one")), count(raised("one"), is_cancel=True)] == [1, 1]
    assert count(raised("one"), is_cancel=True) == 2
    assert count(raised("one"), is_cancel=True, seconds=3600) == 1
    errors.forget(run_id)
    assert count(raised("one")) == 1


async def test_pauses_grow_and_a_cancel_does_not_wait() -> None:
    errors = RepeatedErrors(pause_seconds=5)
    run_id = uuid4()
    assert errors.is_due(run_id, is_cancel=False)
    due = [
        errors.add(run_id, raised("no"), is_cancel=False, lasted_seconds=1).due_at for _ in range(9)
    ]
    assert [round((later - due[0]) / 5) for later in due] == [0, 0, 1, 3, 7, 11, 11, 11, 11]
    assert not errors.is_due(run_id, is_cancel=False)
    assert errors.is_due(run_id, is_cancel=True)


async def test_a_run_whose_job_may_be_well_is_tried_for_longer() -> None:
    errors = RepeatedErrors(pause_seconds=5)
    run_id = uuid4()
    launched = run_of(**{"oumi.attempt": 2, "oumi.launched_attempt": 2})
    earlier = run_of(**{"oumi.attempt": 2, "oumi.launched_attempt": 1})
    for _ in range(4):
        errors.add(run_id, raised("no"), is_cancel=False, lasted_seconds=1)
    fifth = errors.add(run_id, raised("no"), is_cancel=False, lasted_seconds=1)
    assert [is_given_up(run, fifth) for run in (run_of(), earlier, launched)] == [True, True, False]
    for _ in range(5):
        tenth = errors.add(run_id, raised("no"), is_cancel=False, lasted_seconds=1)
    assert is_given_up(launched, tenth)
    assert outcome_for(launched, tenth) == (
        TerminationReason.UNSTARTABLE,
        "The worker gave up after the same error 10 times: ValueError: no. Its job may still run: "
        "retry_job attaches to it again.",
    )


@pytest.mark.parametrize(
    "error",
    [
        let_go(None),
        let_go(httpx.ConnectError("refused")),
        let_go(answer(503)),
        answer(429),
        TimeoutError(),
        ObjectNotFound(ValueError("deleted")),
    ],
    ids=repr,
)
def test_what_says_nothing_about_a_run_is_not_counted(error: BaseException) -> None:
    assert cause_of(error) is None


def test_what_a_run_was_let_go_for_is_counted() -> None:
    defect, refused = ValueError("a defect"), answer(422)
    assert cause_of(let_go(defect)) is defect
    assert cause_of(defect) is defect
    assert cause_of(let_go(refused)) is refused
