"""The metrics of a job, from what Oumi's commands really write and what scripts print."""

import json
import math
import os
from pathlib import Path

import pytest

from flows.core.result_marks import ResultMarks, marks_of
from flows.core.result_metrics import (
    Point,
    ResultFiles,
    kept_metrics,
    pick,
    read_curve,
    read_kept,
    read_metrics,
)

# As `oumi train` 0.9 writes them; after the resume from step 10 steps repeat.
TRAINING = [
    {"loss": 5.97, "grad_norm": 2.6, "step": 1},
    {"loss": 4.3, "step": 10},
    {"loss": 3.9, "step": 15},
    {"loss": 3.5, "step": 15},
    {"eval_loss": 3.25, "eval_runtime": 0.03, "step": 15},
    {"train_runtime": 16.6, "train_loss": 2.2, "step": 15},
]


def trained(folder: Path) -> ResultFiles:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(event)}\n" for event in TRAINING)
    (folder / "metrics_rank0000.jsonl").write_text(text + '{"loss": 3.')
    return ResultFiles(folder, None)


def evaluated(folder: Path, run: str, task: str, **result: object) -> Path:
    place = folder / run
    place.mkdir(parents=True)
    (place / "task_params.json").write_text(json.dumps({"task_name": task}))
    (place / "task_result.json").write_text(json.dumps(result))
    return place / "task_result.json"


def test_a_training_leaves_the_last_value_of_each_metric(tmp_path: Path) -> None:
    metrics = read_metrics(trained(tmp_path))
    assert (metrics["loss"], metrics["eval_loss"], metrics["train_loss"]) == (3.5, 3.25, 2.2)


def test_a_curve_has_the_last_value_of_each_step(tmp_path: Path) -> None:
    assert read_curve(trained(tmp_path), "loss") == [Point(1, 5.97), Point(10, 4.3), Point(15, 3.5)]
    assert read_curve(trained(tmp_path), "accuracy") == []


def test_an_evaluation_leaves_the_results_of_each_task(tmp_path: Path) -> None:
    evaluated(tmp_path, "custom_1", "tiny", exact_match=0.5, start_time="20261123_120000")
    evaluated(tmp_path, "lm_harness_1", "", results={"mmlu": {"acc,none": 0.25, "alias": "mmlu"}})
    metrics = read_metrics(ResultFiles(tmp_path, None))
    assert metrics == {"tiny.exact_match": 0.5, "mmlu.acc": 0.25}
    assert (pick(metrics, "exact_match"), pick(metrics, "mmlu.acc")) == (0.5, 0.25)


def test_of_two_evaluations_of_a_task_the_later_one_counts(tmp_path: Path) -> None:
    old = evaluated(tmp_path, "b", "tiny", exact_match=0.1)
    evaluated(tmp_path, "a", "tiny", exact_match=0.9)
    os.utime(old, (1, 1))
    assert read_metrics(ResultFiles(tmp_path, None)) == {"tiny.exact_match": 0.9}


def test_a_name_that_two_tasks_have_is_none_of_theirs() -> None:
    assert pick({"one.acc": 0.1, "other.acc": 0.2}, "acc") is None
    assert pick({"one.acc": 0.1, "acc": 0.3}, "acc") == 0.3


def logs(folder: Path, *events: dict[str, object]) -> None:
    """What a training appends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics_rank0000.jsonl").open("a") as file:
        file.write("".join(f"{json.dumps(event)}\n" for event in events))


def marked(folder: Path) -> ResultMarks:
    return ResultMarks(folder=str(folder)).next(1, goes_on=True)


def test_what_was_in_the_folder_before_a_job_is_not_the_jobs(tmp_path: Path) -> None:
    trained(tmp_path)
    evaluated(tmp_path, "custom_1", "tiny", exact_match=0.5)
    marks = marked(tmp_path)
    # Neither counts for having been touched since.
    later = (tmp_path / "metrics_rank0000.jsonl").stat().st_mtime + 60
    os.utime(tmp_path / "metrics_rank0000.jsonl", (later, later))
    assert read_metrics(ResultFiles(tmp_path, None, marks)) == {}
    assert read_curve(ResultFiles(tmp_path, None, marks), "loss") == []

    logs(tmp_path, {"loss": 2.5, "step": 1})
    evaluated(tmp_path, "custom_2", "tiny", exact_match=0.7)
    files = ResultFiles(tmp_path, None, marks)
    assert read_metrics(files) == {"loss": 2.5, "step": 1.0, "tiny.exact_match": 0.7}
    assert read_curve(files, "loss") == [Point(1, 2.5)]


def test_an_evaluation_that_writes_over_an_earlier_result_left_it(tmp_path: Path) -> None:
    result = evaluated(tmp_path, "custom_1", "tiny", exact_match=0.5)
    marks = marked(tmp_path)
    result.write_text('{"exact_match": 0.55}')
    assert read_metrics(ResultFiles(tmp_path, None, marks)) == {"tiny.exact_match": 0.55}


def test_of_more_results_than_can_be_kept_none_counts(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "task_result.json").write_text('{"acc": 0.1}')
    marks = marked(tmp_path)
    assert len(marks.model_dump_json()) < 500
    assert read_metrics(ResultFiles(tmp_path, None, marks)) == {}


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_file_that_was_replaced_since_is_the_jobs_from_its_start(
    tmp_path: Path, is_longer: bool
) -> None:
    logs(tmp_path, {"eval_loss": 9.0, "step": 1})
    marks = marked(tmp_path)
    (tmp_path / "metrics_rank0000.jsonl").unlink()
    logs(tmp_path, *[{"loss": 0.5, "step": 1}] * (100 if is_longer else 1))
    assert read_metrics(ResultFiles(tmp_path, None, marks)) == {"loss": 0.5, "step": 1.0}


def test_an_attempt_that_goes_on_keeps_what_the_job_left_and_nothing_of_others(
    tmp_path: Path,
) -> None:
    logs(tmp_path, {"eval_loss": 9.0, "mine": 0.0, "step": 60})
    marks = marked(tmp_path)
    logs(tmp_path, {"loss": 3.0, "mine": 1.0, "step": 10}, {"loss": 2.0, "step": 20})
    marks = marks.with_end(1)
    logs(tmp_path, {"loss": 0.1, "mine": 5.0, "step": 90})  # another job's
    marks = marks.next(2, goes_on=True)
    logs(tmp_path, {"loss": 1.5, "step": 15})
    files = ResultFiles(tmp_path, None, marks)
    assert read_metrics(files) == {"loss": 1.5, "mine": 1.0, "step": 15.0}
    assert read_curve(files, "loss") == [Point(10, 3.0), Point(15, 1.5)]

    fresh = ResultFiles(tmp_path, None, marks.next(3, goes_on=False))
    assert read_metrics(fresh) == {}


def test_marks_are_read_back_as_they_were_kept_and_only_for_their_folder(tmp_path: Path) -> None:
    trained(tmp_path)
    marks = marked(tmp_path)
    label = marks.model_dump_json(exclude_defaults=True)
    assert marks_of(label, str(tmp_path)) == marks
    assert marks_of(label, "/elsewhere") is None
    for odd in ("", "[]", "{", 5, None, '{"folder": 1}'):
        assert marks_of(odd, str(tmp_path)) is None


def test_a_result_that_is_a_pipe_or_nested_deeply_is_passed_over(tmp_path: Path) -> None:
    for name in ("pipe", "deep", "list", "huge"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "task_result.json")
    os.mkfifo(tmp_path / "metrics_rank0000.jsonl")
    (tmp_path / "deep" / "task_result.json").write_text('{"a":' * 100_000)
    (tmp_path / "list" / "task_result.json").write_text("[1]")
    (tmp_path / "huge" / "task_result.json").write_text('{"a": 1' + "0" * 5000 + ', "b": 2}')
    assert read_metrics(ResultFiles(tmp_path, None)) == {"a": math.inf, "b": 2.0}


def test_the_last_value_of_a_metric_is_its_value_also_where_it_is_no_number(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    log.write_text('{"loss": 0.9, "acc": 1}\n{"loss": 0.5}\n{"loss": NaN}\n{"loss": NaN}\n')
    assert read_metrics(ResultFiles(None, log)) == {"acc": 1.0, "loss": math.nan}
    logs(tmp_path, {"eval_loss": 0.5, "step": 1}, {"eval_loss": math.inf, "step": 2})
    files = ResultFiles(tmp_path, None)
    assert read_metrics(files)["eval_loss"] == math.inf
    assert read_curve(files, "eval_loss") == [Point(1, 0.5), Point(2, math.inf)]


def test_metrics_are_kept_as_json_and_read_back_as_they_were() -> None:
    metrics = {"a": 1.5, "b": math.nan, "c": math.inf, "d": -math.inf}
    kept = kept_metrics(metrics)
    assert kept == '{"a": 1.5, "b": "nan", "c": "inf", "d": "-inf"}'
    assert read_kept(kept) == metrics
    assert read_kept("{") is None
    assert read_kept(None) is None
    assert pick({"one.acc": math.nan, "two.acc": -math.nan}, "acc") is not None


def test_a_run_too_short_to_log_a_step_has_the_mean_of_all_as_its_loss(tmp_path: Path) -> None:
    logs(tmp_path, {"train_loss": 5.9, "step": 3})
    assert read_metrics(ResultFiles(tmp_path, None))["loss"] == 5.9
    logs(tmp_path, {"loss": 4.0, "step": 5}, {"train_loss": 4.5, "step": 5})
    assert read_metrics(ResultFiles(tmp_path, None))["loss"] == 4.0


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ('{"exact_match": 0.9, "name": "x", "ok": true}', {"exact_match": 0.9}),
        ("{'loss': '4.162', 'step': 10}", {"loss": 4.162, "step": 10.0}),
        ('  {"a": {"b": 1}}  ', {"a.b": 1.0}),
        ('{"loss": NaN, "other": 1e999}', {"loss": math.nan, "other": math.inf}),
        ("{'loss': nan, 'other': -inf}", {"loss": math.nan, "other": -math.inf}),
        (
            "{'loss': np.float64(0.5), 'b': tensor(nan, device='cuda:0')}",
            {"loss": 0.5, "b": math.nan},
        ),
        # What Transformers logs of a training that diverged.
        ("{'loss': '0', 'grad_norm': 'nan'}", {"loss": math.nan, "grad_norm": math.nan}),
        ("{'loss': '0.5', 'grad_norm': 'inf'}", {"loss": 0.5, "grad_norm": math.inf}),
        ("{[1], [2]}", {}),
        ('{"a":' * 1800, {}),
        ('{"a":' * 1800 + "1" + "}" * 1800, {}),
        ("{'a': 0x" + "f" * 6000 + "}", {"a": math.inf}),
        ('{"a": ' + "9" * 5000 + "}", {"a": math.inf}),
        ("{'a': " + "9" * 5000 + "}", {}),
        ("{'a': " + "-" * 9000 + "1}", {}),
        ('{"' + "k" * 5000 + '": 1, "b": 2}', {"b": 2.0}),
        ("{'a': 1_000, 'b': '1_000', 'c': '\u0663'}", {"a": 1000.0}),
        ("{'a': '\\d', 'b': 1}", {"b": 1.0}),
        ("{1: 2, (1, 2): 3, 'a': {1}, **{}}", {}),
        ("{'a\x00': 1}", {}),
        ("{not json}", {}),
        ("{'a': __import__('os')}", {}),
        ('a {"x": 1}', {}),
        ("[1]", {}),
        ("{" * 5000 + "}" * 5000, {}),
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_script_gives_metrics_by_printing_them(
    tmp_path: Path, line: str, metrics: dict[str, float]
) -> None:
    log = tmp_path / "log.txt"
    log.write_text(f"hello\n{line}\nbye\n")
    assert read_metrics(ResultFiles(None, log)) == metrics


def test_a_job_that_left_nothing_has_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(ResultFiles(tmp_path / "none", tmp_path / "none.txt")) == {}
    assert read_metrics(ResultFiles(None, None)) == {}
