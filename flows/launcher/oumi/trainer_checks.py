"""What only `oumi train` refuses in a config that Oumi's classes accept (oumi 0.9)."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from flows.core.checks.values import mapping_of
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_text import dump_yaml, escape_references
from flows.core.findings import OumiProblem
from flows.core.foreign_errors import error_of
from flows.launcher.loading import load_oumi
from flows.launcher.oumi.config_classes import drop_key, drop_refused, on_this_machine, schema_of
from flows.launcher.oumi.trainer_arguments import training_problems

_COMPLETIONS: Final = "text_completions_only_with_padding"
_BIASES: Final = ("none", "all", "lora_only")
"""What PEFT takes as bias (peft 0.19)."""
_ITS_OWN: Final = ("OUMI", "VERL_GRPO")
"""Trainers that are not of Transformers."""
_LAYOUTS: Final = ("auto", "balanced", "balanced_low_0", "sequential")
"""Values of device_map that are no device (accelerate 1.15)."""


def trainer_problems(
    data: Mapping[str, Any],
    known: Sequence[OumiProblem],
    *,
    folder: Path,
    processes: int | None,
) -> list[OumiProblem]:
    """List what the trainer would refuse; nothing is loaded from a disk or the hub.

    Args:
        data: The content of a training config.
        known: What Oumi's classes refuse in it; those keys are left out.
        folder: Where relative paths start from.
        processes: Those of the job; None: unknown.
    """
    load_oumi()
    content = on_this_machine(copy.deepcopy(dict(data)), folder)
    drop_refused(content, ConfigType.TRAINING)
    for problem in known:
        drop_key(content, problem.key)
    config = _build(content)
    if config is None:
        return []
    written = mapping_of(content.get("training"))
    found = training_problems(config, written, processes=processes)
    return [*found, *_problems(config, found)]


def _build(content: Mapping[str, Any]) -> Any:
    from omegaconf import OmegaConf
    from oumi.core.configs import TrainingConfig

    text = escape_references(dump_yaml(dict(content))) if content else "{}"

    def build() -> None:  # what TrainingConfig.from_str does, with a schema that is made once
        merged = OmegaConf.merge(schema_of(TrainingConfig), OmegaConf.create(text))
        built.append(OmegaConf.to_object(merged))

    built: list[Any] = []
    error_of(build)
    return built[0] if built else None


def _problems(config: Any, found: Sequence[OumiProblem]) -> Iterator[OumiProblem]:
    for key, check in _CHECKS.items():
        error = error_of(lambda check=check: check(config))
        if error is not None and all(problem.key != key for problem in found):
            text = " ".join(str(error).split())
            yield OumiProblem(key=key, message=text[:400], is_of_host=True)


def _check_collator(config: Any) -> None:
    train = config.data.train
    name = train.collator_name
    if not name:
        return
    if config.training.trainer_type.name.endswith("GRPO"):
        raise ValueError(f"collator {name!r} is set, and trainers of GRPO take none")
    given = mapping_of(train.collator_kwargs)
    if name == _COMPLETIONS and not (train.train_target or given.get("response_template")):
        raise ValueError(f"collator {name!r} needs data.train.train_target")
    builders: Any = import_module("oumi.builders")
    error = error_of(lambda: builders.build_data_collator(name, None, max_length=None))
    if isinstance(error, ValueError) and "Unknown" in str(error):
        raise error


def _check_chat_template(config: Any) -> None:
    name = config.model.chat_template
    if name and name != "auto":
        builders: Any = import_module("oumi.builders")
        try:
            builders.build_chat_template(name)
        except FileNotFoundError as error:
            names = str(error).partition("Existing templates: ")[2].splitlines()
            raise ValueError(
                f"Oumi has no chat template {name!r}; it has {', '.join(names[:1])}"
            ) from error


def _check_attention(config: Any) -> None:
    name = config.model.attn_implementation
    if not name or "/" in name:  # a kernel of the hub
        return
    modeling: Any = import_module("transformers.modeling_utils")
    known = {"eager", *modeling.ALL_ATTENTION_FUNCTIONS.valid_keys()}
    if name.removeprefix("paged|") not in known:
        raise ValueError(
            f"Transformers has no attention {name!r}; it has "
            f"{', '.join(sorted(one for one in known if '|' not in one))}"
        )


def _check_device_map(config: Any) -> None:
    import torch

    name = config.model.device_map
    if isinstance(name, str) and name not in _LAYOUTS:
        torch.device(name)


def _check_evaluation(config: Any) -> None:
    training = config.training
    strategy = str(getattr(training.eval_strategy, "value", training.eval_strategy)).lower()
    is_wanted = strategy not in ("no", "false", "none")
    if training.trainer_type.name in _ITS_OWN or not is_wanted:
        return
    if not config.data.validation.datasets:
        raise ValueError(
            f"eval_strategy is {strategy!r}, and data.validation has no data set; "
            "add one, or set eval_strategy: 'no'"
        )


def _check_validation(config: Any) -> None:
    if config.training.trainer_type.name == "VERL_GRPO" and not config.data.validation.datasets:
        raise ValueError("VERL_GRPO needs a validation data set")


def _check_stream(config: Any) -> None:
    training = config.training
    if config.data.train.stream and training.max_steps <= 0:
        raise ValueError(
            "data.train.stream is true, and a stream has no length: set training.max_steps"
        )


def _check_rank(config: Any) -> None:
    if config.training.use_peft and config.peft.lora_r < 1:
        raise ValueError(f"lora_r is {config.peft.lora_r}, and must be 1 or more")


def _check_dropout(config: Any) -> None:
    if config.training.use_peft and not 0 <= config.peft.lora_dropout <= 1:
        raise ValueError(f"lora_dropout is {config.peft.lora_dropout}, and must be from 0 to 1")


def _check_bias(config: Any) -> None:
    if config.training.use_peft and config.peft.lora_bias not in _BIASES:
        raise ValueError(
            f"lora_bias is {config.peft.lora_bias!r}, and must be one of {', '.join(_BIASES)}"
        )


def _check_metrics(config: Any) -> None:
    name = config.training.metrics_function
    if name:
        if config.training.trainer_type.name.endswith("GRPO"):
            raise ValueError(f"metrics_function {name!r} is set, and trainers of GRPO take none")
        builders: Any = import_module("oumi.builders")
        builders.build_metrics_function(config.training)


_CHECKS: Final[Mapping[str, Callable[[Any], None]]] = {
    "data.train.collator_name": _check_collator,
    "model.chat_template": _check_chat_template,
    "model.attn_implementation": _check_attention,
    "model.device_map": _check_device_map,
    "training.eval_strategy": _check_evaluation,
    "data.validation": _check_validation,
    "training.max_steps": _check_stream,
    "peft.lora_r": _check_rank,
    "peft.lora_dropout": _check_dropout,
    "peft.lora_bias": _check_bias,
    "training.metrics_function": _check_metrics,
}
"""What each key may hold, by Oumi's own builders and the installed libraries."""
