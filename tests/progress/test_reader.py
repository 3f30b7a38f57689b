"""Progress read from a training's log, with the hook's reports and without."""

import json
import math
import os
import random
import re
from pathlib import Path

import pytest

from flows.core.models import JobProgress
from flows.job.progress import ProgressReader

OUTPUT = (Path(__file__).parent / "train_output.txt").read_bytes()
"""What `oumi train` (oumi 0.9, transformers 5.16) printed with the hook loaded, 60 steps."""
WITHOUT_HOOK = re.sub(rb"\r::oumi-flows-progress:: [^\r]*\r", b"", OUTPUT)


def report(**fields: object) -> bytes:
    return b"\r::oumi-flows-progress:: " + json.dumps(fields).encode() + b"\r"


def read(path: Path, data: bytes) -> JobProgress | None:
    path.write_bytes(data)
    return ProgressReader(path).read()


def bar(step: int, total: int, times: str = "00:01<00:02, 2.50it/s") -> bytes:
    return b"\r%3d%%|##    | %d/%d [%s]" % (100 * step // total, step, total, times.encode())


def followed(path: Path, data: bytes, *, seed: int) -> list[JobProgress]:
    """Every progress seen while `data` is written to `path` in random portions."""
    rng = random.Random(seed)
    reader = ProgressReader(path)
    path.touch()
    seen: list[JobProgress] = []
    at = 0
    while at < len(data):
        size = rng.randrange(1, 400)
        with path.open("ab") as file:
            file.write(data[at : at + size])
        at += size
        progress = reader.read()
        if progress is not None:
            seen.append(progress)
        assert reader.read() is None
    return seen


@pytest.mark.parametrize("data", [OUTPUT, WITHOUT_HOOK], ids=["hook", "trainer"])
@pytest.mark.parametrize("seed", range(5))
def test_a_training_is_followed_from_its_first_step_to_its_last(
    tmp_path: Path, data: bytes, seed: int
) -> None:
    seen = followed(tmp_path / "log", data, seed=seed)
    steps = [progress.step for progress in seen if progress.step is not None]
    assert steps == sorted(steps)
    assert len(set(steps)) > 10
    assert {progress.max_steps for progress in seen} == {60}
    losses = [progress.loss for progress in seen if progress.loss is not None]
    assert losses[0] == pytest.approx(5.876, abs=0.001)
    assert seen[-1].loss == pytest.approx(0.9862, abs=0.0001)
    assert seen[-1] == JobProgress(
        step=60, max_steps=60, percent=100.0, loss=seen[-1].loss, eta_seconds=0.0
    )


def test_no_log_and_a_log_without_progress_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = ProgressReader(path)
    assert reader.read() is None
    path.write_bytes(b"importing\n")
    assert reader.read() is None


def test_reports_win_over_what_the_trainer_prints(tmp_path: Path) -> None:
    data = report(step=3, max_steps=10, loss=2.0, eta_seconds=7) + bar(9, 10)
    assert read(tmp_path / "log", data) == JobProgress(
        step=3, max_steps=10, percent=30.0, loss=2.0, eta_seconds=7.0
    )


@pytest.mark.parametrize(
    "text",
    [
        b'{"step": "a"}',
        b'{"step": -1}',
        b'{"step": 1',
        b"[]",
        b"{}",
        b"null",
        b'{"step": 1, "max_steps": 0}',
    ],
)
def test_a_report_that_is_none_is_passed_over(tmp_path: Path, text: bytes) -> None:
    data = report(step=1, max_steps=2) + b"\r::oumi-flows-progress:: " + text + b"\n"
    progress = read(tmp_path / "log", data)
    assert progress == JobProgress(step=1, max_steps=2, percent=50.0)


def test_reports_may_end_lines_and_follow_other_text(tmp_path: Path) -> None:
    data = b"text::oumi-flows-progress:: " + b'{"step": 4, "max_steps": null}\nmore\n'
    assert read(tmp_path / "log", data) == JobProgress(step=4)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (b"NaN", math.nan),
        (b"Infinity", math.inf),
        (b'"nan"', math.nan),
        (b'"inf"', math.inf),
        (b'"-inf"', -math.inf),
    ],
)
def test_a_loss_that_is_not_finite_is_the_loss(tmp_path: Path, loss: bytes, value: float) -> None:
    path = tmp_path / "log"
    data = report(step=1, max_steps=2, loss=3.0)
    data += b'\r::oumi-flows-progress:: {"step": 2, "max_steps": 2, "loss": ' + loss + b"}\r"
    path.write_bytes(data)
    reader = ProgressReader(path)
    assert reader.read() == JobProgress(step=2, max_steps=2, percent=100.0, loss=value)
    with path.open("ab") as file:
        file.write(data)
    assert reader.read() is None  # it is what it was


@pytest.mark.parametrize(
    ("loss", "value"),
    [("'nan'", math.nan), ("nan", math.nan), ("'inf'", math.inf), ("'-inf'", -math.inf)],
)
def test_a_printed_loss_that_is_not_finite_is_the_loss(
    tmp_path: Path, loss: str, value: float
) -> None:
    lines = f"{{'loss': '2.5', 'step': 1}}\n{{'loss': {loss}, 'step': 2}}\n"
    assert read(tmp_path / "log", lines.encode()) == JobProgress(step=2, loss=value)


@pytest.mark.parametrize(
    ("record", "loss"),
    [
        ("'loss': '0', 'grad_norm': 'nan', 'step': 2", math.nan),
        ("'loss': '1.2', 'grad_norm': 'nan', 'entropy': 'nan', 'step': 2", math.nan),
        # A step that half precision skips.
        ("'loss': '1.2', 'grad_norm': 'inf', 'entropy': '0.3', 'step': 2", 1.2),
        ("'loss': '0', 'grad_norm': '0.1', 'step': 2", 0.0),
    ],
)
def test_a_printed_loss_that_stands_for_one_that_is_not_finite_is_not_taken(
    tmp_path: Path, record: str, loss: float
) -> None:
    data = f"{{{record}}}\n".encode()
    assert read(tmp_path / "log", data) == JobProgress(step=2, loss=loss)


def test_a_run_too_short_to_log_a_step_has_the_mean_of_all(tmp_path: Path) -> None:
    whole = b"{'train_runtime': '0.7', 'train_loss': '2.126', 'step': 6}\n"
    assert read(tmp_path / "log", whole) == JobProgress(loss=2.126)
    nothing = b"{'train_runtime': '0.7', 'train_loss': '0', 'step': 6}\n"
    assert read(tmp_path / "log", nothing) is None


@pytest.mark.parametrize(
    "line",
    [
        b"\r  0%|  | 1/10 [00:00<:, 1it/s]",
        b"\r  0%|  | " + b"9" * 5000 + b"/10 [00:00<00:01, 1it/s]",
        b"\r  0%|  | 1/10 [00:00<" + b"9" * 5000 + b":00, 1it/s]",
        b"\r  0%|  | 1/0 [00:00<00:00, 1it/s]",
        b'::oumi-flows-progress:: {"step": ' + b"9" * 400 + b', "max_steps": 1}',
        b'::oumi-flows-progress:: {"step": 1, "max_steps": ' + b"9" * 400 + b"}",
        b'::oumi-flows-progress:: {"step": 1, "eta_seconds": 1' + b"0" * 30 + b"}",
        b'::oumi-flows-progress:: {"step": 1, "eta_seconds": "1e999", "loss": []}',
        b"::oumi-flows-progress:: " + b'{"a":' * 3000,
        b"{'loss': '" + b"9" * 5000 + b"', 'step': 1}",
        b"{'loss': 1, 'step': " + b"9" * 5000 + b"}",
        "{'loss': '\u0663', 'step': \u0663}".encode(),
        "\r  0%|  | \u0663/\u0663 [00:00<00:01, 1it/s]".encode(),
    ],
    ids=lambda line: line[:40],
)
def test_no_line_keeps_a_log_from_being_read(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log"
    reader = ProgressReader(path)
    path.write_bytes(line + b"\n")
    reader.read()
    with path.open("ab") as file:
        file.write(report(step=5, max_steps=10))
    assert reader.read() == JobProgress(step=5, max_steps=10, percent=50.0)


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="not a regular file"):
        ProgressReader(tmp_path / "log").read()


@pytest.mark.parametrize(
    "line",
    [
        b"\rMap: 50%|##  | 200/400 [00:01<00:01, 200.00 examples/s]",
        b"\rLoading weights: 100%|####| 20/20 [00:00<00:00, 21564.54it/s]",
        b"\rmodel.safetensors:  10%|#   | 52.4M/524M [00:05<00:45, 10.4MB/s]",
        b"\r 10%|#   | 52.4M/524M [00:05<00:45, 10.4MB/s]",
        b"\rGenerating train split: 8 examples [00:00, 8561.99 examples/s]",
        b"\rEvaluating:  50%|##  | 1/2 [00:00<00:00, 3.00it/s]",
        b"\n\r 50%|##  | 1/2 [00:00<00:00, 3.00it/s]\x1b[A",
        b"{'eval_loss': '1.431', 'epoch': '1.2', 'step': 30}\n",
    ],
)
def test_other_bars_and_numbers_are_not_progress(tmp_path: Path, line: bytes) -> None:
    assert read(tmp_path / "log", line + b"\n") is None
    training = b"{'loss': '2.5', 'step': 5}" + bar(5, 10)
    expected = JobProgress(step=5, max_steps=10, percent=50.0, loss=2.5, eta_seconds=2.0)
    assert read(tmp_path / "log", training + line + b"\n") == expected


def test_an_evaluation_before_or_after_training_is_not_taken_for_it(tmp_path: Path) -> None:
    before = bar(1, 2) + bar(2, 2) + b"\n"
    training = bar(0, 10) + b"\r{'loss': '2.5', 'step': 5}\n" + bar(5, 10)
    after = b"\n" + bar(1, 2)
    expected = JobProgress(step=5, max_steps=10, percent=50.0, loss=2.5, eta_seconds=2.0)
    assert read(tmp_path / "log", before + training + after) == expected


def test_a_bar_that_was_not_the_trainings_is_dropped_when_steps_go_past_it(tmp_path: Path) -> None:
    data = bar(1, 2) + b"\n{'loss': '2.5', 'step': 5}\n" + bar(6, 10)
    assert read(tmp_path / "log", data) == JobProgress(
        step=6, max_steps=10, percent=60.0, loss=2.5, eta_seconds=2.0
    )


def test_steps_go_on_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = ProgressReader(path)
    path.write_bytes(bar(40, 60))
    reader.read()
    with path.open("ab") as file:
        file.write(b"\n" + bar(0, 60, "00:00<?, ?it/s"))
    assert reader.read() is None
    with path.open("ab") as file:
        file.write(bar(41, 60))
    progress = reader.read()
    assert progress is not None
    assert progress.step == 41


@pytest.mark.parametrize(
    ("times", "eta"),
    [
        ("00:00<?, ?it/s", None),
        ("00:10<01:05, 1.00it/s", 65.0),
        ("1:00:10<49:01:05, 12.00s/it", 176465.0),
        ("00:10<01:05, 1.00s/it, loss=3]", 65.0),
    ],
)
def test_the_bars_own_estimate_is_the_eta(tmp_path: Path, times: str, eta: float | None) -> None:
    progress = read(tmp_path / "log", bar(3, 10, times) + b"\n")
    assert progress is not None
    assert progress.eta_seconds == eta


def test_of_a_huge_log_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(report(step=1, max_steps=9))
        file.truncate(2**30)
        file.seek(0, 2)
        file.write(b"\n" + report(step=8, max_steps=9))
    progress = ProgressReader(path).read()
    assert progress == JobProgress(step=8, max_steps=9, percent=88.9)


def test_a_log_that_was_emptied_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    reader = ProgressReader(path)
    path.write_bytes(b"x" * 1000 + report(step=8, max_steps=10))
    reader.read()
    path.write_bytes(report(step=1, max_steps=10))
    assert reader.read() == JobProgress(step=1, max_steps=10, percent=10.0)


def test_random_bytes_do_no_harm(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "log"
    reader = ProgressReader(path)
    for _ in range(50):
        with path.open("ab") as file:
            file.write(rng.randbytes(20_000))
        assert reader.read() is None
