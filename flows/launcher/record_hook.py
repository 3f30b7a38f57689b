"""Writes the training record from inside an ``oumi`` process; Oumi loads it from a file list.

As `flows.launcher.progress_hook`, it stands alone: Oumi imports it under its bare name. It loads
`flows.core.training.recorder` by its path, which is the only other module of oumi-flows it uses.
"""

import functools
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

_RECORDER: Final = Path(__file__).parents[1] / "core" / "training" / "recorder.py"
_BATCH: Final = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
_ARGUMENTS: Final = (
    *_BATCH,
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps"),
    *("logging_steps", "eval_steps", "save_steps", "bf16", "fp16", "gradient_checkpointing"),
    *("optim", "weight_decay", "max_grad_norm", "seed", "max_length"),
)
"""Attributes of ``transformers.TrainingArguments`` (5.16) and those of trl that are recorded."""


def _harmless(event: Callable[..., None]) -> Callable[..., None]:
    """The event, unable to fail: a full disk must not end a training."""

    @functools.wraps(event)
    def call(*args: Any, **kwargs: Any) -> None:
        with suppress(Exception):
            event(*args, **kwargs)

    return call


class RecordedEvents:
    """The events of a trainer callback that write the record; one process of a training does.

    Args:
        recorder: A `flows.core.training.recorder.Recorder`; None: one in the job's folder.
    """

    def __init__(self, recorder: Any = None) -> None:
        self._recorder = recorder or process_recorder()
        self._phase = ""

    @_harmless
    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The model is loaded, and trl has prepared the data."""
        self._enter("ready", state)

    @_harmless
    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Record how the trainer will train; a step other than 0 is that of a checkpoint."""
        if not state.is_world_process_zero:
            return
        facts = {
            "step": state.global_step,
            "max_steps": state.max_steps if state.max_steps > 0 else None,
            "config": _config(args) | _model_facts(model) | _data_facts(train_dataloader),
        }
        self._recorder.note("begin", facts)
        self._enter("training", state)

    @_harmless
    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Record every number."""
        if state.is_world_process_zero and logs:
            numbers = {name: _number(value) for name, value in logs.items()}
            found = {name: number for name, number in numbers.items() if number is not None}
            self._recorder.log(state.global_step, found)

    @_harmless
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An evaluation runs."""
        self._enter("evaluation", state)

    @_harmless
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A training step runs."""
        self._enter("training", state)

    @_harmless
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint of this step is whole on disk."""
        if state.is_world_process_zero:
            folder = str(Path(args.output_dir, f"checkpoint-{state.global_step}"))
            self._recorder.note("save", {"step": state.global_step, "path": folder})

    @_harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The training ended by itself; what follows saves the model."""
        if state.is_world_process_zero:
            self._recorder.note("end", {"step": state.global_step})
        self._enter("saving", state)

    def _enter(self, phase: str, state: Any) -> None:
        if phase != self._phase and state.is_world_process_zero:
            self._phase = phase
            self._recorder.note("phase", {"phase": phase, "step": state.global_step})


@functools.cache
def process_recorder() -> Any:
    """Make the recorder of this process."""
    module = load_recorder()
    log_path = Path(os.environ["OUMI_FLOWS_JOB_DIR"], "log.txt")
    return module.Recorder(module.record_folder(log_path))


def load_recorder() -> ModuleType:
    """Load the module that writes records."""
    spec = importlib.util.spec_from_file_location("oumi_flows_recorder", _RECORDER)
    if spec is None or spec.loader is None:
        raise ImportError(f"{_RECORDER} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config(args: Any) -> dict[str, object]:
    found = {name: getattr(args, name, None) for name in _ARGUMENTS}
    facts = {name: _plain(value) for name, value in found.items() if value is not None}
    sizes = [facts.get(name) for name in _BATCH]
    if all(isinstance(size, int) for size in sizes):
        facts["effective_batch_size"] = math.prod(cast("list[int]", sizes))
    return facts


def _plain(value: object) -> object:
    value = getattr(value, "value", value)
    return value if isinstance(value, bool | int | float) else str(value)


def _model_facts(model: Any) -> dict[str, object]:
    facts: dict[str, object] = {}
    with suppress(Exception):
        sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
        facts["parameters"] = sum(size for size, _ in sizes)
        facts["trainable_parameters"] = sum(size for size, trained in sizes if trained)
        facts["dtype"], facts["device"] = str(model.dtype), str(model.device)
    return facts


def _data_facts(loader: Any) -> dict[str, object]:
    with suppress(Exception):  # a streamed data set has no length
        return {"train_rows": len(loader.dataset)}
    return {}


def _number(value: object) -> float | None:
    with suppress(TypeError, ValueError):
        return None if isinstance(value, bool) else float(cast(float, value))
    return None


def attach() -> None:
    """Add the record to the callbacks of every trainer of Transformers made from now on.

    See `flows.launcher.progress_hook.attach`.
    """
    # Oumi ends the job on any error of a file it loads.
    with suppress(Exception):
        # `oumi distributed` only starts the processes of a training, of which the first records.
        if os.environ.get("RANK", "0") == "0" and sys.argv[1:2] != ["distributed"]:
            process_recorder().note("start", {"pid": os.getpid(), "argv": sys.argv[:20]})
        if "transformers" not in sys.modules:
            return
        base = getattr(importlib.import_module("transformers"), "TrainerCallback", None)
        callbacks = getattr(
            importlib.import_module("transformers.trainer"), "DEFAULT_CALLBACKS", None
        )
        if isinstance(base, type) and isinstance(callbacks, list):
            cast(list[type], callbacks).append(type("OumiFlowsRecord", (RecordedEvents, base), {}))


def _leave_search_path() -> None:
    """Undo Oumi's ``sys.path.append`` of this folder: the job must not find our modules in it."""
    if sys.path[-1] == str(Path(__file__).parent):
        sys.path.pop()


if __name__ == Path(__file__).stem:  # loaded by Oumi, under its bare name
    _leave_search_path()
    attach()
