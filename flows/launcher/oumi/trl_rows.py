"""Rows of data sets that Oumi has no class for: TRL prepares them before a training (trl 1.6)."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.core.errors import InvalidConfig
from flows.launcher.oumi.data_sets import Part
from flows.launcher.oumi.training_config import Parts, one_line


def prepare_rows(part: Part, parts: Parts, folder: Path) -> Part:
    """Tokenize rows as the trainer would; rows that have tokens, and other trainers', stay.

    It sets up `accelerate` for this process, so call it in a process of its own.

    Raises:
        InvalidConfig: The trainer would refuse them.
    """
    columns: list[str] = part.dataset.column_names
    prepare = {"TRL_SFT": _for_sft, "TRL_DPO": _for_dpo}.get(parts.trainer)
    if prepare is None or not part.rows or "input_ids" in columns or "prompt_ids" in columns:
        return part
    try:
        return replace(part, dataset=_Paired(part.dataset, prepare(part, parts, folder)))
    except Exception as error:  # TRL raises anything
        raise InvalidConfig(
            f"{parts.trainer} cannot prepare the rows of {part.name}: {one_line(error)}; its "
            f"columns are {', '.join(columns)[:200]}",
            "Use the columns that the trainer reads, or a data set class of Oumi's",
        ) from error


class _Paired:
    """Prepared rows together with the rows they were made of."""

    def __init__(self, raw: Any, prepared: Any) -> None:
        self._raw = raw
        self._prepared = prepared

    def raw(self, index: int) -> dict[str, Any]:
        return self._raw[index]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._prepared[index]


def _for_sft(part: Part, parts: Parts, folder: Path) -> Any:
    trl: Any = import_module("trl")
    # The method needs no more of the trainer than this; a whole one would need the model.
    trainer: Any = trl.SFTTrainer.__new__(trl.SFTTrainer)
    trainer._tokenizer = parts.tokenizer
    trainer._is_vlm = trainer._is_vision_dataset = False
    arguments = _arguments(trl.SFTConfig, parts, folder)
    module: Any = import_module("trl.trainer.sft_trainer")
    trainer.chat_template = None
    if arguments.assistant_only_loss and not module.has_generation_markers(
        parts.tokenizer.chat_template
    ):
        trainer.chat_template = module.get_training_chat_template(parts.tokenizer)
    return trainer._prepare_dataset(
        part.dataset,
        parts.tokenizer,
        arguments,
        packing=False,
        formatting_func=None,
        dataset_name="train",
    )


def _for_dpo(part: Part, parts: Parts, folder: Path) -> Any:
    from oumi.core.trainers import TrlDpoTrainer

    trainer: Any = TrlDpoTrainer.__new__(TrlDpoTrainer)
    trainer._tokenizer = parts.tokenizer
    trainer._is_vlm = trainer._is_vision_dataset = False
    arguments = _arguments(import_module("trl").DPOConfig, parts, folder)
    return trainer._prepare_dataset(part.dataset, parts.tokenizer, arguments, "train")


def _arguments(kind: Any, parts: Parts, folder: Path) -> Any:
    known = kind.__dataclass_fields__
    given = {
        name: value
        for name, value in parts.config.training.trainer_kwargs.items()
        if name in known and name != "output_dir"
    }
    given |= {"use_cpu": True, "report_to": "none", "bf16": False, "fp16": False}
    return kind(output_dir=str(folder / "trainer"), **given)
