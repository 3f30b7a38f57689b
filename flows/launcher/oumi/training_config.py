"""Oumi's config, tokenizer and collator of a training, built without its model."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.core.checks.values import mapping_of
from flows.core.configs.yaml_text import dump_yaml, escape_references
from flows.core.errors import InvalidConfig
from flows.core.training_data.preview import DataQuestion
from flows.launcher.oumi.config_classes import on_this_machine

_OF_MODEL: Final = frozenset(
    {
        "chat_template",
        "model_max_length",
        "model_name",
        "model_revision",
        "processor_kwargs",
        "tokenizer_kwargs",
        "tokenizer_name",
        "tokenizer_pad_token",
        "trust_remote_code",
    }
)
_OF_TRAINING: Final = frozenset({"label_ignore_index", "trainer_kwargs", "trainer_type"})
"""The keys on which the rows depend. Others may need hardware that is not here."""


class Parts(NamedTuple):
    """What makes rows for the trainer.

    Attributes:
        config: Oumi's config, finalized.
        tokenizer: The tokenizer; None for a custom model without one.
        collator: Makes a batch with labels of a list of rows; None: the rows are used as they are.
        max_length: Tokens at which a row is cut; None: no limit.
    """

    config: Any
    tokenizer: Any
    collator: Any
    max_length: int | None

    @property
    def trainer(self) -> str:
        """The type of the trainer."""
        return str(self.config.training.trainer_type.name)


def build_config(question: DataQuestion) -> Any:
    """Build Oumi's config of the keys on which the rows depend.

    Raises:
        InvalidConfig: Oumi refuses it.
    """
    from oumi.core.configs import TrainingConfig

    content = _content_of(question)
    try:
        config = TrainingConfig.from_str(escape_references(dump_yaml(content)))
        config.finalize_and_validate()
    except Exception as error:
        raise InvalidConfig(f"Oumi refuses the config: {one_line(error)}", "Correct it") from error
    return config


def _content_of(question: DataQuestion) -> dict[str, Any]:
    content = {
        "model": _part(question.content, "model", _OF_MODEL),
        "data": dict(mapping_of(question.content.get("data"))),
        "training": _part(question.content, "training", _OF_TRAINING),
    }
    return on_this_machine(content, Path(question.folder))


def build_parts(config: Any) -> Parts:
    """Build the tokenizer and the collator as `oumi train` 0.9 does.

    Raises:
        InvalidConfig: One of them cannot be built.
    """
    builders: Any = import_module("oumi.builders")
    tokenizer = _build_tokenizer(config, builders)
    try:
        collator: Any = builders.build_collator_from_config(config, tokenizer)
    except Exception as error:
        name = config.data.train.collator_name
        raise InvalidConfig(
            f"the collator {name} cannot be built: {one_line(error)}",
            "Correct data.train.collator_name, train_target or collator_kwargs",
        ) from error
    if collator is None and config.training.trainer_type.name == "TRL_SFT":
        collator = _trl_collator(config, tokenizer)
    return Parts(config, tokenizer, collator, _max_length(config, tokenizer))


def _build_tokenizer(config: Any, builders: Any) -> Any:
    """Build the tokenizer; None for a model of Oumi's own, which needs none."""
    from oumi.core.configs.internal.supported_models import is_custom_model

    try:
        if not is_custom_model(config.model.model_name) or config.model.tokenizer_name:
            return builders.build_tokenizer(config.model)
    except Exception as error:
        raise _no_tokenizer(config, error) from error
    return None


def one_line(error: BaseException) -> str:
    """An error as one short line; a missing key alone says too little."""
    text = str(error).partition("For further information")[0]
    text = " ".join(text.split()).replace(". ", "; ") or type(error).__name__
    if isinstance(error, KeyError):
        text = f"there is no column {text}"
    return text.rstrip(". ")[:400]


def _part(content: Mapping[str, Any], key: str, names: frozenset[str]) -> dict[str, Any]:
    block = mapping_of(content.get(key))
    return {name: value for name, value in block.items() if name in names}


def _trl_collator(config: Any, tokenizer: Any) -> Any:
    """The collator that TRL's SFT trainer uses if it is given none (trl 1.6)."""
    sft_trainer: Any = import_module("trl.trainer.sft_trainer")
    kwargs = config.training.trainer_kwargs
    is_padding_free = bool(kwargs.get("padding_free") or kwargs.get("packing"))
    collator: Any = sft_trainer.DataCollatorForLanguageModeling(
        pad_token_id=tokenizer.pad_token_id,
        max_length=None if is_padding_free else _of_trl(config, "max_length"),
        truncation_mode=_of_trl(config, "truncation_mode"),
        completion_only_loss=kwargs.get("completion_only_loss") is not False,
    )
    return collator


def _of_trl(config: Any, name: str) -> Any:
    """A value of TRL's config: the given one, else its default."""
    fields: Any = import_module("trl").SFTConfig.__dataclass_fields__
    return config.training.trainer_kwargs.get(name, fields[name].default)


def _max_length(config: Any, tokenizer: Any) -> int | None:
    limits: list[int | None] = [config.model.model_max_length]
    if tokenizer is not None and tokenizer.model_max_length < 1e9:
        limits.append(int(tokenizer.model_max_length))
    has_collator = bool(config.data.train.collator_name)
    if config.training.trainer_type.name in ("TRL_DPO", "TRL_KTO") or (
        config.training.trainer_type.name == "TRL_SFT" and not has_collator
    ):
        limits.append(_of_trl(config, "max_length"))
    return min((limit for limit in limits if limit), default=None)


def _no_tokenizer(config: Any, error: Exception) -> InvalidConfig:
    name = config.model.tokenizer_name or config.model.model_name
    text = one_line(error)
    if "gated" in text or "401" in text or "403" in text:
        fix = "Ask for access on its page, and log in with `hf auth login` on the worker's machine"
    elif "offline" in text.lower() or "connect" in text.lower():
        fix = "Download it first, or let the worker reach the hub"
    else:
        fix = "Correct model.model_name or model.tokenizer_name"
    return InvalidConfig(f"the tokenizer of {name} cannot be loaded: {text}", fix)
