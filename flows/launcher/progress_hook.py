"""Reports training progress from inside an ``oumi`` process; Oumi loads it from a file list.

Oumi imports the files named in ``OUMI_EXTRA_DEPS_FILE`` under their bare names, so this one
stands alone: it imports no other module of oumi-flows, and only packages that are already loaded.

A report is ``::oumi-flows-progress:: {json}`` between two carriage returns, as a progress bar
writes: the next output overwrites it, and readers of the log remove it.

It also marks what a training writes: each checkpoint, and at the end the folder of the model, get a
file that names the attempt that wrote it. `flows.core.configs.marks` reads it.
"""

import functools
import hashlib
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, TextIO, cast

MARKER: Final = "::oumi-flows-progress:: "
MARK: Final = "oumi_flows.json"
SIGN: Final = "marks_checkpoints"
"""File in a local job's folder: its training marks its checkpoints, so no other is its own."""
_INTERVAL_SECONDS = 1.0


class TrainingState(Protocol):
    """What is used of ``transformers.TrainerState``."""

    global_step: int
    max_steps: int
    is_world_process_zero: bool


class RawLoss:
    """The loss of the last training step, as the model computed it.

    Transformers (5.16, `logging_nan_inf_filter`) logs the mean of the losses before in place of
    one that is not finite, so a training that diverged logs 0. Without that filter, one such step
    would show in every later record, also of a training that recovered: the records come from a
    sum that is never reset.
    """

    def __init__(self) -> None:
        self._last: Any = None

    @property
    def is_known(self) -> bool:
        """Whether a training step has ended."""
        return self._last is not None

    @property
    def not_finite(self) -> float | None:
        """The loss, if it is not a finite number."""
        loss = _number(self._last)
        return None if loss is None or math.isfinite(loss) else loss

    def forget(self) -> None:
        """Start over, as a training begins."""
        self._last = None

    def watch(self, trainer: Any) -> None:
        """Keep what `trainer.training_step` returns, and put it back into what it logs.

        The loss stays on its device until a record needs it: reading it waits for the device.

        Args:
            trainer: The class of trainers.
        """
        training_step, log = trainer.training_step, trainer.log

        @functools.wraps(training_step)
        def watched_step(*args: Any, **kwargs: Any) -> Any:
            self._last = training_step(*args, **kwargs)
            return self._last

        @functools.wraps(log)
        def honest_log(trainer: Any, logs: Any, *args: Any, **kwargs: Any) -> Any:
            with suppress(Exception):
                self._put_back(logs)
            return log(trainer, logs, *args, **kwargs)

        trainer.training_step, trainer.log = watched_step, honest_log

    def _put_back(self, logs: dict[str, Any]) -> None:
        hidden = self.not_finite
        for name in ("loss", "train_loss"):
            if hidden is not None and name in logs:
                logs[name] = hidden


def _harmless(event: Callable[..., None]) -> Callable[..., None]:
    """The event, unable to fail: the edge between us and someone's training.

    Whatever it meets (a closed pipe, a full disk, a state of another shape) must not end that.
    """

    @functools.wraps(event)
    def call(*args: Any, **kwargs: Any) -> None:
        with suppress(Exception):
            event(*args, **kwargs)

    return call


class ProgressReports:
    """The events of a trainer callback that report progress. Every report is complete in itself.

    Args:
        stream: Where reports go; None: standard output at the time of each report.
        clock: Seconds, monotonic.
    """

    raw_loss = RawLoss()
    """Of the one training that a process does at a time."""

    def __init__(
        self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._began_at = clock()
        self._first_step = 0
        self._reported_at = -math.inf
        self._loss: float | None = None

    @_harmless
    def on_train_begin(self, args: Any, state: TrainingState, control: Any, **_: Any) -> None:
        """Start the clock; a step other than 0 is that of the checkpoint resumed from."""
        self.raw_loss.forget()
        self._began_at = self._clock()
        self._first_step = state.global_step
        _sign()
        self._report("begin", state)

    @_harmless
    def on_step_end(self, args: Any, state: TrainingState, control: Any, **_: Any) -> None:
        """Report at most once a second."""
        if self._clock() - self._reported_at >= _INTERVAL_SECONDS:
            self._report("step", state)
        if not self.raw_loss.is_known:
            # This trainer computes its steps in its own way, so only its records show the loss.
            args.logging_nan_inf_filter = False

    @_harmless
    def on_log(
        self,
        args: Any,
        state: TrainingState,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep the training loss; evaluation results carry none."""
        name = next((name for name in ("loss", "train_loss") if logs and name in logs), None)
        if logs is None or name is None:
            return
        # The mean of a whole run counts where it was too short to log a step's. Of one that goes
        # on from a checkpoint it is too small: of the steps since, divided by all (5.16).
        if name == "loss" or (self._loss is None and self._first_step == 0):
            self._loss = _number(logs[name])
        self._report("log", state)

    @_harmless
    def on_save(self, args: Any, state: TrainingState, control: Any, **_: Any) -> None:
        """A checkpoint of this step is on disk."""
        _mark(args, state, f"checkpoint-{state.global_step}")
        self._report("save", state)

    @_harmless
    def on_train_end(self, args: Any, state: TrainingState, control: Any, **_: Any) -> None:
        """The last report; steps after the last record count in it."""
        _mark(args, state, "")
        hidden = self.raw_loss.not_finite
        self._loss = self._loss if hidden is None else hidden
        self._report("end", state)

    def _report(self, event: str, state: TrainingState) -> None:
        if not state.is_world_process_zero:
            return
        now = self._clock()
        self._reported_at = now
        report = {
            "event": event,
            "step": state.global_step,
            "max_steps": state.max_steps if state.max_steps > 0 else None,
            "loss": _as_json(self._loss),
            "eta_seconds": self._eta_seconds(state, elapsed=now - self._began_at),
        }
        stream = self._stream or sys.stdout
        stream.write(f"\r{MARKER}{json.dumps(report, allow_nan=False)}\r")
        stream.flush()

    def _eta_seconds(self, state: TrainingState, *, elapsed: float) -> float | None:
        done = state.global_step - self._first_step
        left = state.max_steps - state.global_step
        if left <= 0:
            return 0.0 if state.max_steps > 0 else None
        return round(left * elapsed / done, 1) if done > 0 else None


@_harmless
def _sign() -> None:
    """Record in the job's folder that its training marks its checkpoints."""
    Path(os.environ["OUMI_FLOWS_JOB_DIR"], SIGN).touch()


@_harmless
def _mark(args: Any, state: TrainingState, name: str) -> None:
    """Write into a folder of the training's output which attempt of which job wrote it.

    The hash is that of the file that Transformers (5.16) writes last into a checkpoint: it tells
    whether another training wrote over the checkpoint later.
    """
    if not state.is_world_process_zero:
        return
    folder = Path(args.output_dir, name)
    last = folder / "trainer_state.json"
    mark = {
        "job": os.environ["OUMI_FLOWS_JOB_KEY"],
        "step": state.global_step,
        "sha256": hashlib.sha256(last.read_bytes()).hexdigest() if name else None,
    }
    draft = folder / f".{MARK}"
    draft.write_text(json.dumps(mark))
    draft.replace(folder / MARK)


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        return float(value)
    return None


def _as_json(number: float | None) -> float | str | None:
    """A number as JSON can hold it: ``"nan"``, ``"inf"``, ``"-inf"`` where it is not finite."""
    return number if number is None or math.isfinite(number) else str(number)


def attach() -> None:
    """Add the reports to the callbacks of every trainer of Transformers made from now on.

    ``transformers.trainer.DEFAULT_CALLBACKS`` (seen in 5.16) lists the callback classes that a
    trainer starts with, and Oumi 0.9 keeps them when it adds its own. Where Transformers or that
    list is missing, there is nothing to attach to and the training runs without reports.
    """
    if "transformers" not in sys.modules:
        return
    # Oumi ends the job on any error of a file it loads.
    with suppress(Exception):
        base = getattr(importlib.import_module("transformers"), "TrainerCallback", None)
        trainer = importlib.import_module("transformers.trainer")
        callbacks = getattr(trainer, "DEFAULT_CALLBACKS", None)
        if isinstance(base, type) and isinstance(callbacks, list):
            cast(list[type], callbacks).append(
                type("OumiFlowsProgress", (ProgressReports, base), {})
            )
            ProgressReports.raw_loss.watch(trainer.Trainer)


def _leave_search_path() -> None:
    """Undo Oumi's ``sys.path.append`` of this folder: the job must not find our modules in it."""
    if sys.path[-1] == str(Path(__file__).parent):
        sys.path.pop()


if __name__ == Path(__file__).stem:  # loaded by Oumi, under its bare name
    _leave_search_path()
    attach()
