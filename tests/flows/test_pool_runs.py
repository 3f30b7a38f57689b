"""Which runs of a pool a worker takes up, whatever its clock says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateDetails, StateType

from flows.worker.ownership import Owner
from flows.worker.pool_runs import delay_after_step, is_orphan

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "orphaned"),
    [
        (timedelta(seconds=1), False),
        (timedelta(seconds=20), True),
        # The server's clock is a little ahead of ours.
        (timedelta(seconds=-1), False),
        # The clock was set back by a day.
        (timedelta(days=-1), True),
    ],
)
def test_a_run_that_no_worker_signed_is_an_orphan_after_a_while(
    tmp_path: Path, age: timedelta, *, orphaned: bool
) -> None:
    state = State[None](type=StateType.PENDING, timestamp=NOW - age)
    run = FlowRun(id=uuid4(), flow_id=uuid4(), state=state)
    assert is_orphan(run, Owner.current(tmp_path), now=NOW) is orphaned


def scheduled(
    *, noted: timedelta, delay: timedelta, runs: int = 0, by_schedule: bool = False
) -> FlowRun:
    """A run that waits, as noted some time from now."""
    details = StateDetails.model_validate({"scheduled_time": NOW + noted + delay})
    state = State[None](type=StateType.SCHEDULED, timestamp=NOW + noted, state_details=details)
    return FlowRun(
        id=uuid4(), flow_id=uuid4(), state=state, run_count=runs, auto_scheduled=by_schedule
    )


@pytest.mark.parametrize(
    ("run", "delay"),
    [
        # Submitted, or waiting for a retry, before the clock was set back by a day.
        (scheduled(noted=timedelta(days=1), delay=timedelta()), timedelta()),
        (
            scheduled(noted=timedelta(days=1), delay=timedelta(seconds=10), runs=1),
            timedelta(seconds=10),
        ),
        # A time of day that a schedule or a person has chosen.
        (scheduled(noted=timedelta(days=1), delay=timedelta(hours=2), by_schedule=True), None),
        (scheduled(noted=timedelta(days=1), delay=timedelta(hours=2)), None),
        # Noted after it was set.
        (scheduled(noted=timedelta(seconds=-3), delay=timedelta()), None),
        (scheduled(noted=timedelta(seconds=1), delay=timedelta(seconds=10), runs=1), None),
    ],
)
def test_what_waits_from_before_the_clock_was_set_back_waits_no_longer_than_it_was_to(
    run: FlowRun, delay: timedelta | None
) -> None:
    assert delay_after_step(run, now=NOW) == delay
