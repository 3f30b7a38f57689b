"""What is found in the folders that jobs leave."""

import os
import time
from pathlib import Path

import pytest

from flows.core.errors import InvalidArgument
from flows.core.results.bounds import shorten
from flows.core.results.choosing import choose
from flows.core.results.describing import Found
from flows.core.results.here import Here, list_here
from flows.core.results.outputs import Outputs
from flows.core.results.reading import find_here
from flows.core.results.values import JobResults, Output, OutputKind
from flows.core.training.recorder import Recorder, record_folder
from tests.results.trees import (
    JOB_ID,
    OTHER_ID,
    wanted,
    write,
    write_checkpoint,
    write_model,
)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def find(output: Path, **facts: object) -> Found:
    return find_here(wanted(output, **facts), output.parent / "no-configs")


def describe(output: Path, **facts: object) -> JobResults:
    return find(output, **facts).describe(where="here")


def of_kind(folder: Path, kind: OutputKind, **facts: bool) -> Found:
    """What a command of a kind left."""
    output = Output(path=str(folder), kind=kind, **facts)
    listing = list_here(wanted(folder), Outputs([output]))
    return Found(JOB_ID, listing, Here(), lambda: ())


def test_checkpoints_come_with_step_size_and_whether_they_are_whole(output: Path) -> None:
    write_checkpoint(output, 20)
    write_checkpoint(output, 40)
    write_checkpoint(output, 60, whole=False)
    found = describe(output)
    shown = [(one.step, one.whole, one.path) for one in found.checkpoints]
    assert shown == [
        (60, False, str(output / "checkpoint-60")),
        (40, True, str(output / "checkpoint-40")),
        (20, True, str(output / "checkpoint-20")),
    ]
    assert found.checkpoints[0].bytes == len("weights 60")
    assert [one.attempt for one in found.checkpoints] == [None, 1, 1]


def test_the_best_checkpoint_is_the_one_that_the_trainer_names(output: Path) -> None:
    write_checkpoint(output, 20)
    write_checkpoint(
        output,
        40,
        best_model_checkpoint="/elsewhere/checkpoint-20",
        best_metric=0.5,
        log_history=[{"step": 20, "eval_accuracy": 0.5}, {"step": 40, "eval_accuracy": 0.4}],
    )
    best = describe(output).best_checkpoint
    assert best is not None
    assert (best.step, best.metric, best.value) == (20, "eval_accuracy", 0.5)
    assert "best_model_checkpoint" in best.source


@pytest.mark.parametrize(
    ("history", "step", "metric"),
    [
        ([{"step": 20, "eval_loss": 1.0}, {"step": 40, "eval_loss": 2.0}], 20, "eval_loss"),
        ([{"step": 20, "eval_f1": 0.1}, {"step": 40, "eval_f1": 0.2}], 40, "eval_f1"),
        ([{"step": 18, "loss": 3.0}, {"step": 39, "loss": 2.0}], 40, "loss"),
        ([{"step": 20, "eval_loss": "nan"}, {"step": 40, "eval_loss": 2.0}], 40, "eval_loss"),
    ],
)
def test_otherwise_the_logged_values_at_the_checkpoints_tell(
    output: Path, history: list[dict[str, float]], step: int, metric: str
) -> None:
    write_checkpoint(output, 20)
    write_checkpoint(output, 40, log_history=history)
    best = describe(output).best_checkpoint
    assert best is not None
    assert (best.step, best.metric) == (step, metric)
    assert [one.step for one in describe(output).checkpoints if one.best] == [step]


def test_otherwise_the_training_record_tells(output: Path, tmp_path: Path) -> None:
    for step in (20, 40):
        write_checkpoint(output, step)
    log_path = tmp_path / "log.txt"
    recorder = Recorder(record_folder(log_path), "1")
    recorder.note("begin", {"step": 0})
    for step, loss in ((20, 0.5), (40, 0.7)):
        recorder.log(step, {"eval_loss": loss}, at=float(step))
    recorder.close()
    best = describe(output, log_paths=[str(log_path)]).best_checkpoint
    assert best is not None
    assert (best.step, best.metric, best.source) == (20, "eval_loss", "the training record")


def test_checkpoints_of_another_job_in_the_same_folder_are_left_out(output: Path) -> None:
    write_checkpoint(output, 20)
    write_checkpoint(output, 99, job_id=OTHER_ID)
    found = describe(output)
    assert [one.step for one in found.checkpoints] == [20]
    assert "of other jobs" in found.summary
    assert all("checkpoint-99" not in one.source for one in choose(find(output), []))


def test_files_from_before_the_job_are_left_out(output: Path) -> None:
    old = write(output / "old.txt")
    os.utime(old, (1.0, 1.0))
    began_at = time.time() + 3600
    found = describe(output, began_at=began_at)
    assert (found.files, found.total_files) == ([], 0)
    assert "older than the job" in found.summary
    assert [one.path for one in describe(output, began_at=1.0).files] == [str(old)]


def test_models_are_told_apart(output: Path) -> None:
    write_model(output / "full")
    write(output / "adapter" / "adapter_model.safetensors")
    write(output / "adapter" / "adapter_config.json", {"base_model_name_or_path": "org/base"})
    write_model(output / "quantized", quantization_config={"quant_method": "awq"})
    write(output / "model.Q4.gguf")
    found = {Path(one.path).name: one for one in describe(output).models}
    assert (found["full"].kind, found["full"].quantization) == ("full", "")
    assert (found["adapter"].kind, found["adapter"].base_model) == ("adapter", "org/base")
    assert found["quantized"].quantization == "awq"
    assert found["out"].quantization == "gguf"
    (merged,) = (
        of_kind(output / "full", OutputKind.TRAINING, merges=True).describe(where="here").models
    )
    assert merged.kind == "merged"


def test_scores_of_evaluations_are_read_with_their_task(output: Path) -> None:
    folder = output / "custom_2026"
    write(folder / "task_result.json", {"results": {"mmlu": {"acc,none": 0.5}}})
    write(folder / "task_params.json", {"task_name": "mmlu"})
    (score,) = describe(output).scores
    assert (score.task, score.metric, score.value) == ("mmlu", "acc", 0.5)
    assert score.path == str(folder / "task_result.json")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(OutputKind.INFERENCE, "answers.jsonl"), (OutputKind.SYNTHESIS, "rows.jsonl")],
)
def test_the_first_rows_of_written_data_are_shown(
    output: Path, kind: OutputKind, name: str
) -> None:
    path = write(output / name, "".join(f'{{"row": {n}}}\n' for n in range(9)))
    write(output / "another.txt")
    (file,) = of_kind(path, kind, is_file=True).describe(where="here").files
    assert (file.kind, file.path) == (kind, str(path))
    assert file.rows == ['{"row": 0}', '{"row": 1}', '{"row": 2}']


def test_an_analysis_is_shown(output: Path) -> None:
    write(output / "analysis.csv", "length,count\n1,2\n")
    (file,) = of_kind(output, OutputKind.ANALYSIS).describe(where="here").files
    assert (file.kind, file.rows) == ("analysis", ["length,count", "1,2"])


def test_links_are_not_followed(output: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "s")
    (output / "link").symlink_to(secret)
    (output / "folder").symlink_to(tmp_path)
    write(output / "file")
    found = describe(output)
    assert [Path(one.path).name for one in found.files] == ["file"]
    assert "symbolic links are left out" in found.summary


def test_a_job_without_results_says_so(output: Path) -> None:
    assert describe(output).summary.startswith("No results on here yet")
    assert describe(output / "missing").summary.startswith("No results on here yet")


def test_an_answer_is_short_and_says_what_was_cut(output: Path) -> None:
    for step in range(1, 200):
        write_checkpoint(output, step, log_history=[{"step": 7, "eval_loss": 0.1}])
    for number in range(300):
        write(output / f"{number:03d}-{'x' * 100}.jsonl", "y" * 900)
    whole = describe(output)
    short = shorten(whole)
    assert len(short.model_dump_json().encode()) <= 11_500
    assert (short.total_files, short.total_bytes) == (whole.total_files, whole.total_bytes)
    assert f"of {len(whole.files)} files are shown" in short.summary
    assert "of 199 checkpoints are shown" in short.summary
    assert [one.step for one in short.checkpoints if one.best] == [7]


def test_results_are_chosen_by_kind_name_and_path(output: Path) -> None:
    write_checkpoint(output, 20)
    write_checkpoint(output, 40, log_history=[{"step": 20, "eval_loss": 1.0}])
    write_model(output)
    write(output / "eval" / "task_result.json", {"a": 1})
    write(output / "metrics_rank0000.jsonl", "{}")
    found = find(output)

    def names(*what: str) -> set[str]:
        return {one.target.partition("/")[0] for one in choose(found, what)}

    assert names() == names("all")
    assert len(choose(found, [])) == find(output).describe(where="").total_files
    assert names("models") == {"config.json", "model.safetensors", "tokenizer.json"}
    assert names("checkpoints") == {"checkpoint-20", "checkpoint-40"}
    assert names("best") == names("checkpoint-20") == {"checkpoint-20"}
    assert names("scores") == names(str(output / "eval")) == {"eval"}
    assert names("files") == {"metrics_rank0000.jsonl"}
    assert names("best", "scores") == {"checkpoint-20", "eval"}
    for bad in ("../other", "checkpoint-99", str(output.parent), "/etc/passwd", "eval/../.."):
        with pytest.raises(InvalidArgument):
            choose(found, [bad])


def test_files_that_a_script_left_in_its_folder_are_those_that_changed_while_it_ran(
    tmp_path: Path,
) -> None:
    now = time.time()
    write(tmp_path / "made" / "result.json", {"a": 1})
    write(tmp_path / ".git" / "HEAD")
    given = wanted(tmp_path / "no", began_at=now - 100, ended_at=now + 1)
    found = Found(JOB_ID, list_here(given, Outputs([], str(tmp_path))), Here(), lambda: ())
    assert [one.target for one in choose(found, [])] == ["made/result.json"]
    own = list_here(given, Outputs([], str(tmp_path)), excluded=tmp_path / "made")
    assert [root.files for root in own.roots] == [[]]
    over = given.model_copy(update={"ended_at": now - 50})
    listing = list_here(over, Outputs([], str(tmp_path)))
    assert [root.files for root in listing.roots] == [[]]
