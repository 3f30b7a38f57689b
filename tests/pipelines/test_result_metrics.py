"""The metrics of a job, from what Oumi's commands really write and what scripts print."""

import json
import os
from pathlib import Path

import pytest

from flows.result_metrics import Point, ResultFiles, pick, read_curve, read_metrics

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


def test_what_an_earlier_job_left_in_the_folder_is_not_this_ones(tmp_path: Path) -> None:
    trained(tmp_path)
    evaluated(tmp_path, "custom_1", "tiny", exact_match=0.5)
    later = (tmp_path / "metrics_rank0000.jsonl").stat().st_mtime + 60
    assert read_metrics(ResultFiles(tmp_path, None, since=later)) == {}
    assert read_curve(ResultFiles(tmp_path, None, since=later), "loss") == []


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ('{"exact_match": 0.9, "name": "x", "ok": true}', {"exact_match": 0.9}),
        ("{'loss': '4.162', 'step': 10}", {"loss": 4.162, "step": 10.0}),
        ('  {"a": {"b": 1}}  ', {"a.b": 1.0}),
        ('{"loss": NaN, "other": 1e999}', {}),
        ("{not json}", {}),
        ("{'a': __import__('os')}", {}),
        ('a {"x": 1}', {}),
        ("[1]", {}),
        ("{" * 5000 + "}" * 5000, {}),
    ],
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
