"""The labels of a run: their names and values are those on runs of earlier versions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from flows.core.budget.account import Account
from flows.core.models import Overlap
from flows.core.run_labels import RunLabels
from flows.core.states import ProcessHolder
from flows.core.stopwatch import Instant, Stopwatch

WATCH = Stopwatch(2, 1.5, Instant("boot", 3.0, 4.0))
EVERY = RunLabels(
    attempt=3,
    cluster_name="gpu",
    launcher_job_id="17",
    log_path="/jobs/log.txt",
    processes_held_by=ProcessHolder.CONTROL_GROUP,
    model_name="a/b",
    output_dir="/out",
    force_cancel=True,
    launched_attempt=2,
    work_pool="oumi",
    submitted_attempt=3,
    ended_attempt=2,
    attempts_taken_back=1,
    fresh_attempt=2,
    fresh_since=12.5,
    provenance="abc",
    stopwatch=WATCH,
    limit_stopwatch=None,
    stopped_attempt=2,
    stopped_for="loss is nan",
    timed_out_attempt=1,
    resumed_attempt=3,
    resumed_from_step=40,
    schedule="nightly",
    overlap=Overlap.QUEUE,
    fires_at=datetime(2026, 11, 24, 1, tzinfo=UTC),
    run_name="train",
    part_of="parent",
    part="train",
    ordered=True,
    unread=False,
    metrics="{}",
    result_marks="[]",
    submission="{}",
    stopped_early="",
    one_part_attempt=2,
    from_job="source",
    note="a base line",
    hourly_price=1.5,
    account=Account(price=1.5, gpus=2, pool="oumi"),
    over_budget_attempt=2,
    over_budget_for="$1.50",
    launch_log="/home/sky/c1/oumi-1.launch.log",
    collected_attempt=1,
    collected_into="/copies",
    collected_part="best into /copies",
)
ON_THE_RUN = {
    "oumi.attempt": 3,
    "oumi.cluster_name": "gpu",
    "oumi.launcher_job_id": "17",
    "oumi.log_path": "/jobs/log.txt",
    "oumi.processes_held_by": "control_group",
    "oumi.model_name": "a/b",
    "oumi.output_dir": "/out",
    "oumi.force_cancel": True,
    "oumi.launched_attempt": 2,
    "oumi.work_pool": "oumi",
    "oumi.submitted_attempt": 3,
    "oumi.ended_attempt": 2,
    "oumi.attempts_taken_back": 1,
    "oumi.fresh_attempt": 2,
    "oumi.fresh_since": 12.5,
    "oumi.provenance": "abc",
    "oumi.stopwatch": "2 1.500 boot 3.000 4.000",
    "oumi.limit_stopwatch": "",
    "oumi.stopped_attempt": 2,
    "oumi.stopped_for": "loss is nan",
    "oumi.timed_out_attempt": 1,
    "oumi.resumed_attempt": 3,
    "oumi.resumed_from_step": 40,
    "oumi.schedule": "nightly",
    "oumi.overlap": "queue",
    "oumi.fires_at": "2026-11-24T01:00:00+00:00",
    "oumi.run_name": "train",
    "oumi.part_of": "parent",
    "oumi.part": "train",
    "oumi.ordered": True,
    "oumi.unread": "no",
    "oumi.metrics": "{}",
    "oumi.result_marks": "[]",
    "oumi.submission": "{}",
    "oumi.stopped_early": "",
    "oumi.one_part_attempt": 2,
    "oumi.from_job": "source",
    "oumi.note": "a base line",
    "oumi.hourly_price": 1.5,
    "oumi.account": '{"price":1.5,"gpus":2,"pool":"oumi"}',
    "oumi.over_budget_attempt": 2,
    "oumi.over_budget_for": "$1.50",
    "oumi.launch_log": "/home/sky/c1/oumi-1.launch.log",
    "oumi.collected_attempt": 1,
    "oumi.collected_into": "/copies",
    "oumi.collected_part": "best into /copies",
}


def test_every_label_keeps_the_name_and_the_value_that_older_runs_have() -> None:
    assert EVERY.model_fields_set == set(RunLabels.model_fields)
    assert EVERY.as_labels() == ON_THE_RUN
    assert RunLabels.read({**ON_THE_RUN, "prefect.flow.id": "1"}) == EVERY


def test_only_what_was_set_is_written() -> None:
    assert RunLabels().as_labels() == {}
    assert RunLabels(attempt=2, output_dir=None).as_labels() == {"oumi.attempt": 2}
    changes = RunLabels(attempt=2, cluster_name="a").with_changes(RunLabels(cluster_name="b"))
    assert changes.as_labels() == {"oumi.attempt": 2, "oumi.cluster_name": "b"}


@pytest.mark.parametrize(
    ("label", "value", "expected"),
    [
        ("attempt", "2", RunLabels(attempt=2)),
        ("attempt", "two", RunLabels()),
        ("launcher_job_id", 17, RunLabels(launcher_job_id="17")),
        ("launcher_job_id", ["17"], RunLabels()),
        ("processes_held_by", "magic", RunLabels()),
        ("overlap", "never", RunLabels()),
        ("stopwatch", "fast", RunLabels(stopwatch=None)),
        ("fires_at", "soon", RunLabels()),
        ("unread", "yes", RunLabels(unread=True)),
    ],
)
def test_a_value_that_is_not_valid_is_left_out(label: str, value: Any, expected: RunLabels) -> None:
    assert RunLabels.read({f"oumi.{label}": value, "oumi.part": "a"}) == expected.with_changes(
        RunLabels(part="a")
    )
