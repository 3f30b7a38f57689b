"""The progress hook: what it reports, and that it never gets in a training's way."""

import importlib
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows.core.configs import marks
from flows.core.configs.marks import Mark, read_mark
from flows.core.logs.lines import REPORT_MARKER
from flows.core.models import JobProgress
from flows.core.names import JOB_KEY_ENV
from flows.job.progress import ProgressReader
from flows.launcher.job_environment import HOOKS, deps_file_text
from flows.launcher.local.job_folder import JOB_DIR_ENV
from flows.launcher.progress_hook import MARK, MARKER, SIGN, ProgressReports, RawLoss

KEY = "oumi-01a207af111172228333444455556666-3"


@dataclass
class State:
    global_step: int = 0
    max_steps: int = 10
    is_world_process_zero: bool = True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Training:
    """A trainer's calls to the hook, and what came of them."""

    def __init__(self, **state: Any) -> None:
        self.stream = io.StringIO()
        self.clock = Clock()
        self.hook = ProgressReports(stream=self.stream, clock=self.clock)
        self.state = State(**state)
        self.hook.on_train_begin(None, self.state, None)

    def step(self, *, seconds: float) -> None:
        self.state.global_step += 1
        self.clock.now += seconds
        self.hook.on_step_end(None, self.state, None, model=None)

    def log(self, **logs: object) -> None:
        self.hook.on_log(None, self.state, None, logs=logs)

    @property
    def reports(self) -> list[dict[str, object]]:
        texts = self.stream.getvalue().split("\r")
        return [json.loads(text.removeprefix(MARKER)) for text in texts if text]


def test_readers_and_hook_agree_on_the_marker_and_on_the_name_of_a_mark() -> None:
    assert MARKER == REPORT_MARKER
    assert MARK == marks.MARK


def test_steps_are_reported_at_most_once_a_second() -> None:
    training = Training(max_steps=100)
    for _ in range(32):
        training.step(seconds=0.125)
    assert [report["step"] for report in training.reports] == [0, 8, 16, 24, 32]


def test_a_report_is_complete_in_itself(tmp_path: Path) -> None:
    training = Training()
    training.step(seconds=2)
    training.log(loss=1.5, learning_rate=0.1)
    training.hook.on_save(None, training.state, None)
    training.step(seconds=2)
    assert training.reports[-1] == {
        "event": "step",
        "step": 2,
        "max_steps": 10,
        "loss": 1.5,
        "eta_seconds": 16.0,
    }
    path = tmp_path / "log"
    path.write_text(training.stream.getvalue(), newline="")
    reader = ProgressReader(path)
    assert reader.read() == JobProgress(
        step=2, max_steps=10, percent=20.0, loss=1.5, eta_seconds=16.0
    )


def test_after_a_resume_the_estimate_counts_only_the_steps_since() -> None:
    training = Training(global_step=6)
    training.step(seconds=5)
    assert training.reports[-1]["eta_seconds"] == 15.0


def test_the_end_is_reported_with_nothing_left() -> None:
    training = Training(max_steps=1)
    training.step(seconds=0.5)
    training.hook.on_train_end(None, training.state, None)
    last = training.reports[-1]
    assert (last["event"], last["step"], last["eta_seconds"]) == ("end", 1, 0.0)


@pytest.mark.parametrize(
    ("loss", "reported"),
    [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), ("nan", "nan")],
)
def test_a_loss_that_is_not_finite_is_reported_as_what_it_is(loss: object, reported: str) -> None:
    training = Training()
    training.log(loss=2.0)
    training.log(loss=loss)
    assert [report["loss"] for report in training.reports] == [None, 2.0, reported]


@pytest.mark.parametrize("loss", [None, [1], "unknown"])
def test_a_loss_that_is_no_number_is_reported_as_none(loss: object) -> None:
    training = Training()
    training.log(loss=2.0)
    training.log(loss=loss)
    assert [report["loss"] for report in training.reports] == [None, 2.0, None]


class Trainer:
    """What the hook wraps of a trainer: a step that returns its loss, and what it logs."""

    loss: object = 1.0
    logged: dict[str, float]

    def training_step(self) -> object:
        return self.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.logged = logs


class Watched(Training):
    """A training whose steps go through a trainer that the hook watches."""

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)

        class Own(Trainer):
            pass

        self.trainer = Own()
        self.hook.raw_loss = RawLoss()
        self.hook.raw_loss.watch(Own)

    def step_with(self, loss: object) -> None:
        self.trainer.loss = loss
        assert self.trainer.training_step() is loss
        self.step(seconds=0.1)

    def log_with(self, **record: float) -> dict[str, float]:
        """What all who read a record get of it."""
        self.trainer.log(record, 1.0)
        self.log(**self.trainer.logged)
        return self.trainer.logged


def test_a_loss_that_transformers_replaced_is_put_back_for_all_who_read_the_record() -> None:
    training = Watched()
    training.step_with(math.nan)
    assert math.isnan(training.log_with(loss=0.0, grad_norm=math.nan)["loss"])
    assert training.reports[-1]["loss"] == "nan"


def test_a_training_that_got_over_a_step_without_a_loss_has_not_diverged() -> None:
    training = Watched()
    training.step_with(math.inf)
    training.step_with(0.5)
    assert training.log_with(loss=0.6, grad_norm=math.inf)["loss"] == 0.6
    assert training.reports[-1]["loss"] == 0.6


def test_steps_after_the_last_record_count_at_the_end() -> None:
    training = Watched()
    training.step_with(0.5)
    training.log(loss=0.5)
    training.step_with(math.nan)
    assert math.isnan(training.log_with(train_loss=0.5)["train_loss"])
    training.hook.on_train_end(None, training.state, None)
    assert training.reports[-1]["loss"] == "nan"


def test_a_second_training_of_a_process_does_not_have_the_first_ones_loss() -> None:
    training = Watched()
    training.step_with(math.nan)
    training.hook.on_train_begin(None, training.state, None)
    training.hook.on_train_end(None, training.state, None)
    assert training.reports[-1]["loss"] is None


def test_a_run_too_short_to_log_a_step_has_the_mean_of_all() -> None:
    training = Training()
    training.step(seconds=0.1)
    training.log(train_loss=5.9)
    assert training.reports[-1]["loss"] == 5.9
    training.log(loss=3.0)
    training.log(train_loss=4.0)
    assert training.reports[-1]["loss"] == 3.0


def test_the_mean_of_a_run_that_goes_on_from_a_checkpoint_is_no_loss() -> None:
    training = Training(global_step=6)
    training.step(seconds=0.1)
    training.log(train_loss=0.9)
    assert training.reports[-1]["loss"] is None


def test_a_trainer_with_steps_of_its_own_is_asked_for_its_losses_as_they_are() -> None:
    training = Watched()
    args = SimpleNamespace(logging_nan_inf_filter=True)
    training.step_with(1.0)
    training.hook.on_step_end(args, training.state, None)
    assert args.logging_nan_inf_filter
    training.hook.on_train_begin(args, training.state, None)
    training.hook.on_step_end(args, training.state, None)
    assert not args.logging_nan_inf_filter


def test_evaluation_results_are_not_a_training_loss() -> None:
    training = Training()
    training.log(eval_loss=2.0)
    training.log()
    assert [report["event"] for report in training.reports] == ["begin"]


def test_only_the_first_process_of_a_training_reports() -> None:
    training = Training(is_world_process_zero=False)
    training.step(seconds=5)
    assert not training.reports


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output folder of a training that has written a checkpoint, in a job of ours."""
    checkpoint = tmp_path / "out" / "checkpoint-7"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 7}')
    return tmp_path / "out"


def save(output: Path, **state: Any) -> None:
    training = Training(global_step=7)
    training.state = State(global_step=7, **state)
    args = SimpleNamespace(output_dir=str(output))
    training.hook.on_save(args, training.state, None)
    training.hook.on_train_end(args, training.state, None)


def test_a_checkpoint_and_the_model_at_the_end_are_marked_with_the_attempt_that_wrote_them(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_KEY_ENV, KEY)
    save(output)
    mine = Mark(job_id=UUID(KEY.split("-")[1]), attempt=3)
    assert read_mark(output / "checkpoint-7") == mine
    assert read_mark(output) == mine


def test_a_training_that_is_no_job_of_ours_marks_nothing(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(JOB_KEY_ENV, raising=False)
    save(output)
    assert read_mark(output / "checkpoint-7") is None
    assert read_mark(output) is None


def test_only_the_first_process_of_a_training_marks(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_KEY_ENV, KEY)
    save(output, is_world_process_zero=False)
    assert read_mark(output / "checkpoint-7") is None


def test_a_mark_that_cannot_be_written_keeps_nothing_from_being_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_KEY_ENV, KEY)
    training = Training(global_step=7)
    training.hook.on_save(SimpleNamespace(output_dir=str(tmp_path / "gone")), training.state, None)
    assert training.reports[-1]["event"] == "save"
    assert not list(tmp_path.iterdir())


def test_a_training_says_in_its_jobs_folder_that_it_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB_DIR_ENV, str(tmp_path))
    Training()
    assert [path.name for path in tmp_path.iterdir()] == [SIGN]


def test_neither_a_closed_stream_nor_another_state_ends_a_training() -> None:
    training = Training()
    training.stream.close()
    training.step(seconds=5)
    training.hook.on_step_end(None, object(), None)  # type: ignore[arg-type]
    training.hook.on_train_begin(None, object(), None)  # type: ignore[arg-type]


HOOK = HOOKS[0]
OURS = "".join(f"{hook}\n" for hook in HOOKS)


class FakeCallback:
    def on_epoch_end(self) -> str:
        return "inherited"


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A stand-in for Transformers, in a process that loads the hook as Oumi does."""
    package, trainer = ModuleType("transformers"), ModuleType("transformers.trainer")
    package.TrainerCallback = FakeCallback  # type: ignore[attr-defined]
    trainer.DEFAULT_CALLBACKS = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", package)
    monkeypatch.setitem(sys.modules, "transformers.trainer", trainer)
    yield trainer
    sys.modules.pop(HOOK.stem, None)


def load_as_oumi_does() -> None:
    sys.path.append(str(HOOK.parent))
    importlib.import_module(HOOK.stem)


def test_loaded_by_oumi_it_joins_the_callbacks_of_every_trainer(transformers: ModuleType) -> None:
    search_path = list(sys.path)
    load_as_oumi_does()
    (callback,) = transformers.DEFAULT_CALLBACKS
    assert issubclass(callback, FakeCallback)
    assert callback().on_epoch_end() == "inherited"
    assert getattr(callback, "on_save", None) is not None
    assert sys.path == search_path


def test_transformers_without_the_list_is_left_alone(
    transformers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(transformers, "DEFAULT_CALLBACKS")
    load_as_oumi_does()
    assert not hasattr(transformers, "DEFAULT_CALLBACKS")


def test_transformers_without_the_class_is_left_alone(
    transformers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["transformers"], "TrainerCallback")
    load_as_oumi_does()
    assert transformers.DEFAULT_CALLBACKS == []


def test_without_transformers_nothing_is_imported(
    transformers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "transformers")
    load_as_oumi_does()
    assert "transformers" not in sys.modules
    assert transformers.DEFAULT_CALLBACKS == []


def test_the_deps_file_keeps_what_the_user_has_in_it() -> None:
    assert deps_file_text(None) == OURS
    assert deps_file_text("# mine\nmy_module.py") == f"# mine\nmy_module.py\n{OURS}"
    assert deps_file_text(deps_file_text("a.py\n")) == f"a.py\n{OURS}"
    assert all(hook.is_file() for hook in HOOKS)
