"""Durations and limits do not depend on the wall clock."""

from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from flows.core.stopwatch import Instant, Stopwatch, start
from flows.job.run_record import RunRecord
from flows.job.run_stopwatches import RunStopwatches

BEGAN = Instant("boot-1", 100.0, 1_000_000.0)


def later(seconds: float, *, step: float = 0.0, boot: str = "boot-1") -> Instant:
    """`seconds` after the beginning, with a wall clock that was set by `step` meanwhile."""
    monotonic = BEGAN.monotonic + seconds if boot == BEGAN.boot else seconds
    return Instant(boot, monotonic, BEGAN.wall + seconds + step)


@pytest.mark.parametrize("step", [0.0, 86_400.0, -86_400.0])
def test_a_clock_that_is_set_changes_no_duration(step: float) -> None:
    watch = start(None, attempt=1, now=BEGAN)
    assert watch.seconds(later(7.0, step=step)) == 7.0
    assert watch.stop(later(7.0, step=step)).seconds(later(99.0)) == 7.0


def test_the_time_between_attempts_does_not_count() -> None:
    first = start(None, attempt=1, now=BEGAN).stop(later(7.0))
    second = start(first, attempt=2, now=later(600.0))
    assert second.stop(later(605.0)).seconds(later(9999.0)) == 12.0


def test_another_process_of_the_same_boot_reads_it_on() -> None:
    kept = str(start(None, attempt=1, now=BEGAN))
    known = Stopwatch.parse(kept)
    assert start(known, attempt=1, now=later(30.0)) == known
    assert known is not None
    assert known.seconds(later(31.0, step=-500.0)) == 31.0


def test_over_a_reboot_the_wall_clock_is_all_there_is() -> None:
    watch = start(None, attempt=1, now=BEGAN)
    rebooted = start(watch, attempt=1, now=later(50.0, boot="boot-2"))
    assert rebooted.seconds(later(60.0, boot="boot-2")) == 60.0


@pytest.mark.parametrize(
    "watch", [Stopwatch(3, 12.5, None), Stopwatch(1, 0.0, BEGAN), Stopwatch(2, 1.25, later(3.5))]
)
def test_what_is_kept_is_read_again(watch: Stopwatch) -> None:
    assert Stopwatch.parse(str(watch)) == watch


@pytest.mark.parametrize("text", [None, "", "x", "1", "1 2 boot", "-1 2"])
def test_other_texts_are_no_stopwatch(text: object) -> None:
    assert Stopwatch.parse(text) is None


class Labels:
    """What of Prefect's client a record of labels needs."""

    def __init__(self) -> None:
        self.writes = 0

    async def update_flow_run_labels(self, _run_id: object, labels: dict[str, Any]) -> None:
        self.writes += bool(labels)


class Attempts:
    """The run of a job, as one worker after the other sees it."""

    def __init__(self) -> None:
        self.labels = Labels()
        self.run = FlowRun(id=uuid4(), flow_id=uuid4())
        self.now = BEGAN

    def worker(self) -> RunStopwatches:
        record = RunRecord(self.run, cast("PrefectClient", self.labels))
        return RunStopwatches(record, now=lambda: self.now)


async def test_a_limit_counts_what_was_measured_before_a_reboot_and_no_gap() -> None:
    attempts = Attempts()
    worker = attempts.worker()
    for seconds in (0.0, 61.0, 90.0):
        attempts.now = later(seconds)
        assert await worker.running_seconds(attempt=1) == pytest.approx(seconds)
    attempts.now = later(10.0, step=86_400.0, boot="boot-2")
    worker = attempts.worker()
    assert await worker.running_seconds(attempt=1) == pytest.approx(61.0)
    attempts.now = later(15.0, boot="boot-2")
    assert await worker.running_seconds(attempt=1) == pytest.approx(66.0)


async def test_a_limit_is_kept_once_a_minute_and_not_at_every_look() -> None:
    attempts = Attempts()
    worker = attempts.worker()
    for seconds in range(59):
        attempts.now = later(seconds)
        await worker.running_seconds(attempt=1)
    assert attempts.labels.writes == 1


async def test_the_limit_of_an_attempt_that_waits_once_more_begins_again() -> None:
    attempts = Attempts()
    worker = attempts.worker()
    await worker.running_seconds(attempt=1)
    await worker.forget_running()
    attempts.now = later(50.0)
    assert await worker.running_seconds(attempt=1) == 0.0
