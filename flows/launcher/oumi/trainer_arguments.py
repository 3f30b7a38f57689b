"""What the trainer refuses in the training part of a config: its own classes are built from it.

Oumi hands the keys of `training` to Transformers and TRL only when the model is loaded. Here their
config, optimizer, schedule and loader are built without a model, on the CPU and in milliseconds.
"""

import copy
import inspect
import logging
import os
import re
import threading
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, cast

from flows.core.checks.values import mapping_of
from flows.core.findings import OumiProblem
from flows.core.foreign_errors import error_of
from flows.launcher.oumi.class_fields import init_hints
from flows.launcher.oumi.culprits import find_culprit

_MOST: Final = 20
"""The most errors that are looked for."""
_ONE_AT_A_TIME: Final = threading.Lock()
_RANKS: Final = re.compile(r"(LOCAL_|WORLD_|PMI_|OMPI_COMM_WORLD_|MV2_COMM_WORLD_)?(RANK|SIZE)")
"""Variables by which Accelerate (1.15) would join other processes."""
_OF_MACHINE: Final = frozenset(
    {"bf16_full_eval", "deepspeed", "fp16_full_eval", "fsdp", "fsdp_config", "parallelism_config",
     "tf32", "torch_compile_backend", "torch_compile_mode", "use_cpu"}
)  # fmt: skip
"""Arguments that need what a job has and the worker does not use, such as a GPU."""
_UNEXPECTED: Final = re.compile(r"(?:unexpected|multiple values for) keyword argument '(\w+)'")
_KWARGS: Final = "trainer_kwargs"
_OUMI: Final = "OUMI"
_GENERATIONS: Final = 8
"""What TRL 1.6 generates for a prompt by default."""


def training_problems(
    config: Any, written: Mapping[str, Any], *, processes: int | None
) -> list[OumiProblem]:
    """List what the trainer refuses, each by its key.

    Args:
        config: Oumi's config, not finalized.
        written: The keys of `training` that the config has.
        processes: Those of the job; None: unknown.
    """
    training = config.training
    cls = cast("type[Any]", type(training))
    fields: dict[str, Any] = {
        name: getattr(training, name) for name in init_hints(cls) if name in written
    }
    kwargs = dict(mapping_of(written.get(_KWARGS)))
    trial = _Trial(cls, kwargs, processes=processes)
    problems: list[OumiProblem] = []
    with _ONE_AT_A_TIME, _apart():
        for _ in range(_MOST):
            error = trial(fields)[1]
            if error is None:
                break
            name = _bad_argument(trial, fields, error)
            if name is not None:
                problems.append(_problem(f"{_KWARGS}.{name}", error, processes))
                del trial.kwargs[name]
                continue
            candidates = [key for key in fields if key != _KWARGS]
            key, without = find_culprit(trial, fields, written, candidates, error)
            problems.append(_problem(key, error, processes))
            if without is None:
                break
            fields = without
    return problems


class _Trial:
    """Builds what the trainer would, from some fields of `training`.

    Args:
        cls: Oumi's class of the fields.
        kwargs: Further arguments of the trainer's own config.
        processes: Those of the job; None: unknown.
    """

    def __init__(self, cls: type[Any], kwargs: dict[str, Any], *, processes: int | None) -> None:
        self.cls = cls
        self.kwargs = kwargs
        self.processes = processes

    def __call__(self, fields: Mapping[str, Any]) -> tuple[object, Exception | None]:
        """Return what is built, and the error; what is not installed is no error here."""
        built: list[Any] = []
        error = error_of(lambda: built.append(self._build(copy.deepcopy(dict(fields)))))
        return (built or [None])[0], None if isinstance(error, ImportError) else error

    def _build(self, fields: dict[str, Any]) -> Any:
        training = self.cls(**fields)
        trainer = training.trainer_type.name
        if trainer == "VERL_GRPO":
            return training
        _check_levels(training)
        if trainer == _OUMI:
            _build_for_oumi(training)
            return training
        _leave_out_machine(training, self.kwargs)
        if trainer == "TRL_GRPO":
            # TRL checks the rows of all processes, of which the worker is one.
            count = self.processes or training.grpo.num_generations or _GENERATIONS
            training.per_device_train_batch_size *= count
            training.per_device_eval_batch_size *= count
        arguments = training.to_hf()
        arguments.get_process_log_level()
        _build_loaders(arguments)
        _build_steps(arguments)
        return training


def _check_levels(training: Any) -> None:
    """Check what is read only when the training runs."""
    import numpy

    checkpoint: Any = import_module("torch.utils.checkpoint").checkpoint
    logging.Logger("oumi").setLevel(str(training.log_level).upper())
    for seed in filter(None, (training.seed, training.data_seed)):
        numpy.random.RandomState(seed)
    known = {*inspect.signature(checkpoint).parameters} - {"function", "args", "kwargs"}
    unknown = sorted(mapping_of(training.gradient_checkpointing_kwargs).keys() - known)
    if unknown:
        raise ValueError(
            f"gradient_checkpointing_kwargs has {', '.join(unknown)}, which torch does not know; "
            f"it knows {', '.join(sorted(known))}"
        )


def _leave_out_machine(training: Any, kwargs: Mapping[str, Any]) -> None:
    """Leave out what needs the job's machine, or would change the environment of this process."""
    kept = {name: value for name, value in kwargs.items() if name not in _OF_MACHINE}
    training.trainer_kwargs = {**kept, "use_cpu": True}
    precision = cast("Any", type(training.mixed_precision_dtype))
    training.mixed_precision_dtype = precision.NONE
    training.enable_tensorboard = training.enable_wandb = training.enable_mlflow = False
    training.compile = False
    if isinstance(training.dataloader_num_workers, str):
        training.dataloader_num_workers = 0


def _build_loaders(arguments: Any) -> None:
    from torch.utils.data import DataLoader

    rows: Any = [0]
    for size in (arguments.train_batch_size, arguments.eval_batch_size):
        DataLoader(
            rows,
            batch_size=size,
            num_workers=arguments.dataloader_num_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
            persistent_workers=arguments.dataloader_persistent_workers,
        )


def _build_steps(arguments: Any) -> None:
    """Build the optimizer and the schedule of the learning rate, for one parameter."""
    transformers: Any = import_module("transformers")
    model = _tiny_model()
    made = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    optimizer_class, options = cast("tuple[Any, dict[str, Any]]", made)
    if "optimizer_dict" in options or "params" in options:
        return  # layer by layer, which needs the real model
    options.pop("fused", None)  # needs a GPU
    optimizer = optimizer_class(model.parameters(), **options)
    if arguments.weight_decay < 0:
        raise ValueError(f"Invalid weight_decay value: {arguments.weight_decay}")
    transformers.get_scheduler(
        arguments.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=arguments.get_warmup_steps(100),
        num_training_steps=100,
        scheduler_specific_kwargs=dict(arguments.lr_scheduler_kwargs or {}),
    )


def _build_for_oumi(training: Any) -> None:
    """Build what Oumi's own trainer does."""
    from oumi.builders import build_optimizer
    from oumi.builders.lr_schedules import build_lr_scheduler

    for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
        if getattr(training, name) < 1:
            raise ValueError(f"{name} must be positive")
    optimizer = build_optimizer(_tiny_model(), training)
    build_lr_scheduler(optimizer, training, num_training_steps=100)


def _tiny_model() -> Any:
    """A model of one parameter."""
    import torch

    return torch.nn.Linear(1, 1, bias=False)


def _bad_argument(trial: _Trial, fields: Mapping[str, Any], error: Exception) -> str | None:
    """The further argument that causes the error; None: none does."""
    unexpected = _UNEXPECTED.search(str(error))
    if unexpected:
        return unexpected[1] if unexpected[1] in trial.kwargs else None
    for name in trial.kwargs:
        rest = {key: value for key, value in trial.kwargs.items() if key != name}
        other = _Trial(trial.cls, rest, processes=trial.processes)(fields)[1]
        if str(other) != str(error):
            return name
    return None


def _problem(key: str, error: Exception, processes: int | None) -> OumiProblem:
    text = " ".join(str(error).split())[:350] or type(error).__name__
    if "num_generations" in text and "divisible" in text:
        # It counts the rows of all processes.
        count = f"{processes} process{'es' * (processes != 1)}"
        text += f" That is with {count}: change gpus, the batch or training.grpo.num_generations."
    return OumiProblem(
        key=f"training.{key}" if key else "training",
        message=f"the trainer refuses it: {text}",
        is_of_host=True,  # it may have other versions
    )


@contextmanager
def _apart() -> Generator[None]:
    """Keep the libraries from joining other processes, and from changing this one."""
    before = dict(os.environ)
    for name in [name for name in before if _RANKS.fullmatch(name)]:
        del os.environ[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update({k: v for k, v in before.items() if os.environ.get(k) != v})
