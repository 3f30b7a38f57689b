"""The hook that writes the record from inside a training, and the record it leaves."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.core.training.record import TrainingRecord
from flows.launcher.record_hook import RecordedEvents, load_recorder

ARGS = SimpleNamespace(
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    world_size=2,
    learning_rate=1e-3,
    max_steps=10,
    output_dir="/results",
)


class Training:
    """A trainer of Transformers, as far as the hook sees it."""

    def __init__(self, folder: Path, *, is_first: bool = True) -> None:
        recorder = load_recorder().Recorder(folder)
        self._events = RecordedEvents(recorder)
        self.state = SimpleNamespace(global_step=0, max_steps=10, is_world_process_zero=is_first)

    def happen(self, event: str, **kwargs: Any) -> None:
        getattr(self._events, event)(ARGS, self.state, None, **kwargs)

    def run(self, logs: dict[str, Any]) -> None:
        self.happen("on_init_end")
        self.happen("on_train_begin")
        self.happen("on_step_begin")
        self.state.global_step = 1
        self.happen("on_log", logs=logs)
        self.happen("on_prediction_step")
        self.happen("on_step_begin")
        self.happen("on_save")
        self.happen("on_train_end")


def kinds_of(record: TrainingRecord) -> list[tuple[str, Any]]:
    return [(event["kind"], event.get("phase", event.get("step"))) for event in record.events()]


def test_what_a_trainer_logs_and_does_is_recorded(tmp_path: Path) -> None:
    Training(tmp_path).run({"loss": 2.5, "grad_norm": math.nan, "epoch": 0, "note": "text"})
    record = TrainingRecord([tmp_path])
    assert record.names() == ["epoch", "grad_norm", "loss"]
    assert record.read("loss").values.tolist() == [2.5]
    assert math.isnan(record.read("grad_norm").values[0])
    assert kinds_of(record) == [
        ("phase", "ready"),
        ("begin", 0),
        ("phase", "training"),
        ("phase", "evaluation"),
        ("phase", "training"),
        ("save", 1),
        ("end", 1),
        ("phase", "saving"),
    ]


def test_the_config_as_the_trainer_has_it_is_recorded(tmp_path: Path) -> None:
    Training(tmp_path).run({})
    begin = next(event for event in TrainingRecord([tmp_path]).events() if event["kind"] == "begin")
    assert begin["max_steps"] == 10
    assert begin["config"]["effective_batch_size"] == 16
    assert begin["config"]["learning_rate"] == 1e-3


def test_other_processes_of_a_training_record_nothing(tmp_path: Path) -> None:
    Training(tmp_path, is_first=False).run({"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_does_not_end_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Training(tmp_path / "file").run({"loss": 1.0})
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("value", [None, "text", object(), [1.0], True])
def test_what_is_no_number_is_left_out(tmp_path: Path, value: object) -> None:
    Training(tmp_path).run({"odd": value, "loss": 1})
    assert TrainingRecord([tmp_path]).names() == ["loss"]
