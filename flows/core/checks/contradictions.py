"""Check for settings of a recipe that contradict each other or that Oumi silently ignores."""

from collections.abc import Mapping
from typing import Any, Final, cast

from flows.core.checks.recipe import Recipe
from flows.core.configs.schema import ConfigType
from flows.core.findings import FindingCode

_NEED_PATH: Final = frozenset(
    {"text_sft", "text_sft_jsonl", "text_dpo_jsonl", "vision_language_jsonl", "vision_dpo_jsonl",
     "vl_sft"}
)  # fmt: skip
"""Data sets of Oumi 0.9 that read a file of the user."""

_OF_TRAINER: Final = {
    "text_sft": frozenset({"TRL_DPO", "TRL_KTO"}),
    "text_sft_jsonl": frozenset({"TRL_DPO", "TRL_KTO"}),
    "text_dpo_jsonl": frozenset({"TRL_SFT", "TRL_KTO", "TRL_GKD"}),
    "vision_dpo_jsonl": frozenset({"TRL_SFT", "TRL_KTO", "TRL_GKD"}),
}
"""Trainers that need other columns than the data set has."""

_BLOCKS: Final = {
    "grpo": ("TRL_GRPO", "VERL_GRPO"),
    "gkd": ("TRL_GKD",),
    "gold": ("TRL_GOLD",),
}
_LORA: Final = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "q_lora")


def check_contradictions(recipe: Recipe) -> None:
    """Note settings that contradict each other."""
    if recipe.config_type is ConfigType.TRAINING:
        _check_peft(recipe)
        _check_trainer_blocks(recipe)
        _check_saving(recipe)
        _check_teacher(recipe)
    _check_datasets(recipe)
    if recipe.config_type is ConfigType.INFERENCE and not recipe.text("input_path"):
        recipe.notes.warning(
            FindingCode.NO_INPUT_PATH,
            "input_path is not set, so oumi infer waits for keyboard input",
            "Set input_path to a JSONL file of conversations, here or as an override",
            key="input_path",
        )


def _check_peft(recipe: Recipe) -> None:
    block: object = recipe.get("peft")
    if not isinstance(block, Mapping) or recipe.uses_lora:
        return
    options = cast("Mapping[str, Any]", block)
    named = [key for key in _LORA if options.get(key) not in (None, False)]
    if named:
        recipe.notes.warning(
            FindingCode.PEFT_NOT_USED,
            f"peft.{named[0]} is set but training.use_peft is not true, so Oumi ignores the peft "
            "block and trains the whole model",
            "Set training.use_peft: true, or remove the peft block",
            key="peft",
        )


def _check_trainer_blocks(recipe: Recipe) -> None:
    for block, trainers in _BLOCKS.items():
        if recipe.get(f"training.{block}") and recipe.trainer not in trainers:
            recipe.notes.warning(
                FindingCode.TRAINER_MISMATCH,
                f"training.{block} is set but trainer_type is {recipe.trainer}, which ignores it",
                f"Set training.trainer_type to {' or '.join(trainers)}, or remove the block",
                key=f"training.{block}",
                nearest=trainers[0],
            )


def _check_teacher(recipe: Recipe) -> None:
    block = {"TRL_GKD": "gkd", "TRL_GOLD": "gold"}.get(recipe.trainer)
    key = f"training.{block}.teacher_model_name_or_path"
    if block and not recipe.text(key):
        recipe.notes.error(
            FindingCode.MISSING_KEY,
            f"missing key {key}: trainer {recipe.trainer} learns from a teacher",
            "Set it to the teacher's model",
            key=key,
        )


def _check_saving(recipe: Recipe) -> None:
    never = (
        recipe.get("training.save_steps", 500) == 0
        and not recipe.get("training.save_epoch", False)
        and recipe.get("training.save_final_model", True) is False
    )
    if never:
        recipe.notes.warning(
            FindingCode.NEVER_SAVES,
            "nothing is saved: save_steps is 0, save_epoch and save_final_model are false",
            "Set training.save_final_model: true or a number of save_steps",
            key="training.save_final_model",
        )


def _check_datasets(recipe: Recipe) -> None:
    for dataset in recipe.datasets():
        if dataset.name in _NEED_PATH and not dataset.path and "data" not in dataset.kwargs:
            if dataset.kwargs.get("dataset_path"):
                continue
            recipe.notes.error(
                FindingCode.NO_DATASET_PATH,
                f"{dataset.key} is {dataset.name}, which reads a file, and dataset_path is not set",
                "Set dataset_path to your JSONL file",
                key=f"{dataset.key}.dataset_name",
            )
        if recipe.config_type is ConfigType.TRAINING and recipe.trainer in _OF_TRAINER.get(
            dataset.name, ()
        ):
            recipe.notes.error(
                FindingCode.TRAINER_MISMATCH,
                f"{dataset.name} lacks the columns that trainer {recipe.trainer} needs",
                "Use a data set for this trainer, or another training.trainer_type",
                key=f"{dataset.key}.dataset_name",
            )
