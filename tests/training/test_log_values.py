"""Metrics in lines that trainers print."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.core.training.log_values import read_values
from flows.core.training.record import Segment
from flows.core.training.recorder import LOG_SEGMENT
from flows.job.log_recorder import LogRecorder

LINES = [
    ("{'loss': '4.162', 'step': 10, 'epoch': 1}", 10, {"loss": 4.162, "epoch": 1.0}),
    ('{"train/loss": 0.5, "train/global_step": 7}', 7, {"train/loss": 0.5}),
    ('{"eval": {"acc": 0.5}}', None, {"eval.acc": 0.5}),
    ("[rank0]:{'loss': 2, 'step': 3}", 3, {"loss": 2.0}),
    ("[default0]: {'loss': 2, 'step': 3}", 3, {"loss": 2.0}),
    ("12: {'loss': 2, 'step': 3}", 3, {"loss": 2.0}),
    (" 50%|█████     | 30/60 [00:00<00:01, 96.02it/s]{'loss': 2, 'step': 31}", 31, {"loss": 2.0}),
    ("INFO settings: {'lr': 0.1, 'step': 3}", None, {}),
    ("step:3 - actor/loss:0.2 - time/x:1e-5", 3, {"actor/loss": 0.2, "time/x": 1e-5}),
    ("step=3 loss=0.2 lr=1e-4", 3, {"loss": 0.2, "lr": 1e-4}),
    ("Epoch 2/10, step 25: loss: 0.2", 25, {"loss": 0.2}),
    ("iter 3: loss 0.2, time 120ms", 3, {"loss": 0.2}),
    ("Step 5 | train loss 0.3 | val loss 0.4", 5, {"train_loss": 0.3, "val_loss": 0.4}),
    ("12:30:45 INFO: step 5: loaded 200 files", 5, {}),
    ("2024-01-01 12:00:01 [step 5] seed=3 rank: 0", 5, {}),
    ("loaded: 5 files in 3.2 s", None, {}),
    ("the step was long", None, {}),
    ("", None, {}),
]


@pytest.mark.parametrize(("line", "step", "metrics"), LINES)
def test_the_metrics_of_a_line_are_read(
    line: str, step: int | None, metrics: dict[str, float]
) -> None:
    values = read_values(line)
    assert (values.step, dict(values.metrics)) == (step, metrics)


def test_a_loss_that_the_trainer_hid_is_not_a_number() -> None:
    assert math.isnan(read_values("{'loss': 0.0, 'grad_norm': nan}").metrics["loss"])


def test_a_bar_gives_the_step() -> None:
    values = read_values(" 30%|###       | 3/10 [00:01<00:02,  2.5it/s]")
    assert (values.step, values.total, dict(values.metrics)) == (3, 10, {})


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet=st.sampled_from("step: =0123456789.einfa{}[]'|%/,\"-+ \r\n"), max_size=300))
def test_any_line_is_read_without_an_error(line: str) -> None:
    values = read_values(line)
    assert all(isinstance(value, float) for value in values.metrics.values())


def read_loss(record: Path) -> list[tuple[int, float]]:
    series = Segment(record / LOG_SEGMENT).read("loss")
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_a_log_is_recorded_as_it_grows_and_by_another_worker_from_there_on(tmp_path: Path) -> None:
    log, record = tmp_path / "log.txt", tmp_path / "log.record"
    recorder = LogRecorder(log, record)
    recorder.read()
    assert not record.exists()
    log.write_text("{'loss': 3, 'step': 1}\n{'loss': 2, 'st")
    recorder.read()
    assert read_loss(record) == [(1, 3.0)]
    with log.open("a") as file:
        file.write("ep': 2}\n{'loss': 1, 'step': 3}\r\n")
    LogRecorder(log, record).read()
    assert read_loss(record) == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_lines_without_a_step_get_that_of_the_bar_or_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("{'loss': 3}\n{'loss': 2}\n")
    LogRecorder(log, tmp_path / "a").read()
    assert read_loss(tmp_path / "a") == [(1, 3.0), (2, 2.0)]
    bar = "{0}%|#| {0}/{1} [00:01<00:02, 2it/s]\r"
    log.write_text(f"{bar.format(10, 100)}{{'loss': 3}}\n{bar.format(3, 7)}{{'loss': 2}}\n")
    LogRecorder(log, tmp_path / "b").read()
    assert read_loss(tmp_path / "b") == [(10, 2.0)]


def test_metrics_that_are_written_between_the_bars_of_a_terminal_are_recorded(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.txt"
    # As tqdm 4.70 draws the bar of an evaluation below that of a training, and writes above both.
    log.write_text(
        " 50%|#####     | 30/60 [00:00<00:00, 96.02it/s]\n\n"
        "  0%|          | 0/2 [00:00<?, ?it/s]\x1b[A\n"
        "                                      \x1b[A{'eval_loss': '1.5', 'step': 30}\n\r"
        "\x1b[32m{'eval_loss': '1.4', 'step': 60}\x1b[0m\n"
    )
    LogRecorder(log, tmp_path / "record").read()
    series = Segment(tmp_path / "record" / LOG_SEGMENT).read("eval_loss")
    assert series.steps.tolist() == [30, 60]
    assert series.values.tolist() == [1.5, 1.4]


def test_a_long_log_is_recorded_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("".join(f"{{'loss': 1.5, 'step': {step}}}\n" for step in range(200_000)))
    recorder = LogRecorder(log, tmp_path / "record")
    recorder.read()
    assert 0 < len(read_loss(tmp_path / "record")) < 200_000
    recorder.read(rest=True)
    assert len(read_loss(tmp_path / "record")) == 200_000


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("{" + "9" * 5_000_000 + "\n{'loss': 1, 'step': 3}\n")
    LogRecorder(log, tmp_path / "record").read(rest=True)
    assert read_loss(tmp_path / "record") == [(3, 1.0)]
