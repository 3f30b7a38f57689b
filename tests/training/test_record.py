"""The training record as it is written and read."""

import math
import os
from pathlib import Path

import pytest

from flows.core.training.chart import draw_metrics
from flows.core.training.record import Segment, TrainingRecord, read_segments
from flows.core.training.recorder import LOG_SEGMENT, ROW, Recorder, file_name, record_folder
from flows.core.training.series import Series, greatest, least, thin
from flows.core.training.summary import describe_metrics
from flows.core.training.values import MetricsRequest


def steps_of(series: Series) -> list[int]:
    return series.steps.tolist()


def values_of(series: Series) -> list[float]:
    return series.values.tolist()


def record_steps(folder: Path, segment: str, *, start: int, steps: list[int], value: float) -> None:
    """Record a training that begins at a step and logs the same loss at each of its steps."""
    recorder = Recorder(folder, segment)
    recorder.note("begin", {"step": start})
    for step in steps:
        recorder.log(step, {"loss": value})
    recorder.close()


def test_what_was_logged_is_read_back_with_its_times(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.log(1, {"loss": 2.5, "train/grad norm": 0.1}, at=100.0)
    recorder.log(2, {"loss": 2.0}, at=101.5)
    (segment,) = read_segments(tmp_path)
    assert segment.names() == ["loss", "train/grad norm"]
    series = segment.read("loss")
    assert (steps_of(series), values_of(series)) == ([1, 2], [2.5, 2.0])
    assert series.times.tolist() == [100.0, 101.5]
    assert values_of(segment.read("train/grad norm")) == [0.1]


def test_values_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for step, value in enumerate([1.0, math.nan, math.inf, -math.inf]):
        recorder.log(step, {"loss": value})
    values = values_of(TrainingRecord([tmp_path]).read("loss"))
    assert [str(value) for value in values] == ["1.0", "nan", "inf", "-inf"]


def test_a_row_that_was_not_written_whole_is_ignored_and_written_over(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "one")
    recorder.log(1, {"loss": 1.0})
    recorder.close()
    path = tmp_path / "one" / file_name("loss")
    with path.open("ab") as file:
        file.write(ROW.pack(2, 0.0, 9.0)[:11])
    assert steps_of(Segment(tmp_path / "one").read("loss")) == [1]
    Recorder(tmp_path, "one").log(3, {"loss": 3.0})
    assert values_of(Segment(tmp_path / "one").read("loss")) == [1.0, 3.0]


def test_lines_of_events_that_are_not_whole_are_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "one")
    recorder.note("begin", {"step": 0}, at=1.0)
    with (tmp_path / "one" / "events.jsonl").open("a") as file:
        file.write('{"kind": "sa\n[1]\n')
    recorder.note("end", {"step": 9}, at=2.0)
    events = list(Segment(tmp_path / "one").events())
    assert events == [
        {"kind": "begin", "at": 1.0, "step": 0},
        {"kind": "end", "at": 2.0, "step": 9},
    ]


@pytest.mark.parametrize("name", ["../../loss", "a/b", ".", "..", "loss%2F", "ü", "a b"])
def test_no_name_of_a_metric_leaves_the_folder(tmp_path: Path, name: str) -> None:
    recorder = Recorder(tmp_path / "record", "one")
    recorder.log(1, {name: 1.0})
    assert Segment(tmp_path / "record" / "one").names() == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_a_name_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.log(1, {"x" * 300: 1.0, "": 1.0, "loss": 1.0})
    assert TrainingRecord([tmp_path]).names() == ["loss"]


def test_of_more_metrics_than_there_is_room_for_the_first_stay(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.log(1, {f"m{number:03}": 1.0 for number in range(300)})
    recorder.close()
    assert TrainingRecord([tmp_path]).names() == [f"m{number:03}" for number in range(200)]


def test_a_resumed_attempt_replaces_the_steps_it_ran_again(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    record_steps(first, "a", start=0, steps=[10, 20, 30, 40], value=1.0)
    record_steps(second, "b", start=20, steps=[30, 50], value=2.0)
    series = TrainingRecord([first, second]).read("loss")
    assert list(zip(steps_of(series), values_of(series), strict=True)) == [
        (10, 1.0),
        (20, 1.0),
        (30, 2.0),
        (50, 2.0),
    ]
    assert steps_of(TrainingRecord([first]).read("loss")) == [10, 20, 30, 40]


def test_an_attempt_from_the_start_replaces_all_steps(tmp_path: Path) -> None:
    record_steps(tmp_path / "1", "a", start=0, steps=[1, 2, 3], value=1.0)
    record_steps(tmp_path / "2", "b", start=0, steps=[1], value=2.0)
    assert values_of(TrainingRecord([tmp_path / "1", tmp_path / "2"]).read("loss")) == [2.0]


def test_an_attempt_that_logged_nothing_replaces_nothing(tmp_path: Path) -> None:
    record_steps(tmp_path / "1", "a", start=0, steps=[1, 2], value=1.0)
    record_steps(tmp_path / "2", "b", start=0, steps=[], value=2.0)
    assert steps_of(TrainingRecord([tmp_path / "1", tmp_path / "2"]).read("loss")) == [1, 2]


def test_steps_that_a_process_ran_twice_count_once(tmp_path: Path) -> None:
    record_steps(tmp_path, "a", start=0, steps=[1, 2, 3, 2, 2, 5], value=1.0)
    assert steps_of(TrainingRecord([tmp_path]).read("loss")) == [1, 2, 5]


def test_the_trainings_own_numbers_count_before_those_of_the_log(tmp_path: Path) -> None:
    record_steps(tmp_path, "a", start=0, steps=[1, 2], value=1.0)
    log = Recorder(tmp_path, LOG_SEGMENT)
    log.log(1, {"loss": 7.0, "exact_match": 0.5})
    record = TrainingRecord([tmp_path])
    assert record.names() == ["exact_match", "loss"]
    assert (values_of(record.read("loss")), values_of(record.read("exact_match"))) == (
        [1.0, 1.0],
        [0.5],
    )


def test_a_full_file_keeps_its_ends_its_spikes_and_its_nan(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, rows_max=1000)
    for step in range(5000):
        value = {1234: 99.0, 2345: -99.0, 3456: math.nan}.get(step, 1.0)
        recorder.log(step, {"loss": value})
    series = TrainingRecord([tmp_path]).read("loss")
    assert len(series.steps) <= 1000
    assert (steps_of(series)[0], steps_of(series)[-1]) == (0, 4999)
    assert (least(series), greatest(series)) == ((2345, -99.0), (1234, 99.0))
    assert [
        step
        for step in steps_of(series)
        if math.isnan(values_of(series)[steps_of(series).index(step)])
    ] == [3456]


def test_a_thinned_series_keeps_its_ends_and_every_spike() -> None:
    points = [(step, float(step), 1.0) for step in range(100_000)]
    points[777] = (777, 777.0, 50.0)
    points[50_001] = (50_001, 0.0, math.nan)
    points[99_000] = (99_000, 0.0, -3.0)
    thinned = thin(Series.of(points), 100)
    assert len(thinned.steps) <= 100
    assert {0, 777, 50_001, 99_000, 99_999} <= set(steps_of(thinned))


def test_a_short_series_is_not_thinned() -> None:
    series = Series.of((step, 0.0, 1.0) for step in range(100))
    assert steps_of(thin(series, 100)) == list(range(100))


def test_a_disk_that_refuses_a_row_loses_no_earlier_or_later_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "one")
    recorder.log(1, {"loss": 1.0})
    path = tmp_path / "one" / file_name("loss")
    path.chmod(0o600)
    os.truncate(path, ROW.size + 5)  # as a full disk leaves a row
    recorder.log(2, {"loss": 2.0})
    assert values_of(Segment(tmp_path / "one").read("loss")) == [1.0, 2.0]


def test_there_is_no_record_where_there_is_no_folder(tmp_path: Path) -> None:
    record = TrainingRecord([tmp_path / "gone"])
    assert (record.names(), record.events(), steps_of(record.read("loss"))) == ([], [], [])


def test_what_the_last_attempt_used_is_a_metric_of_its_own(tmp_path: Path) -> None:
    for attempt, ram in enumerate([1e9, 3e9]):
        Recorder(tmp_path / str(attempt), "usage").log(10, {"ram_bytes": ram})
        Recorder(tmp_path / str(attempt)).log(attempt, {"loss": 1.0})
    record = TrainingRecord([tmp_path / "0", tmp_path / "1"])
    assert (record.names(), record.usage_names()) == (["loss"], ["usage/ram_bytes"])
    series = record.read("usage/ram_bytes")
    assert (steps_of(series), values_of(series)) == ([10], [3e9])
    log = tmp_path / "job" / "log.txt"
    folder = record_folder(log)
    Recorder(folder, "usage").log(10, {"ram_bytes": 3e9})
    Recorder(folder).log(1, {"loss": 1.0})
    request = MetricsRequest(job_id="a", log_paths=[str(log)])
    found = describe_metrics(request)
    assert ([one.key for one in found.keys], found.other_keys) == (["loss"], ["usage/ram_bytes"])
    found = describe_metrics(request.model_copy(update={"keys": ["usage/ram_bytes"]}))
    assert [one.key for one in found.keys] == ["usage/ram_bytes"]
    assert draw_metrics([found]).startswith(b"\x89PNG")
