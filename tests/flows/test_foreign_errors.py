"""Errors of code that is not ours are translated or noted; cancellation and our own pass."""

import asyncio

import pytest

from flows.core.errors import InvalidArgument, LaunchFailed
from flows.core.foreign_errors import error_of, note_defects, translate_foreign


def launch_failed(error: Exception) -> LaunchFailed:
    return LaunchFailed(f"it said {error}", "Try again")


def test_a_foreign_error_is_translated_and_kept_as_the_cause() -> None:
    with (
        pytest.raises(LaunchFailed, match="it said no") as failed,
        translate_foreign(launch_failed),
    ):
        raise RuntimeError("no")
    assert isinstance(failed.value.__cause__, RuntimeError)


def test_an_error_of_ours_is_not_translated() -> None:
    with pytest.raises(InvalidArgument), translate_foreign(launch_failed):
        raise InvalidArgument("lines is 0", "Give 1 or more")


@pytest.mark.parametrize("signal", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_ends_a_task_or_a_process_passes(signal: type[BaseException]) -> None:
    noted: list[Exception] = []
    with pytest.raises(signal), note_defects(noted.append), translate_foreign(launch_failed):
        raise signal
    assert noted == []


def test_a_defect_ends_the_block_alone() -> None:
    noted: list[Exception] = []
    reached: list[str] = []
    with note_defects(noted.append):
        reached.append("before")
        raise ValueError("odd")
    assert (reached, [str(error) for error in noted]) == (["before"], ["odd"])


def test_a_call_tells_its_error() -> None:
    assert error_of(lambda: 7) is None
    assert isinstance(error_of(lambda: 1 // 0), ZeroDivisionError)
