"""Mistakes that people make in training configs: each is reported before the launch.

Without these checks most of them end the job only once the model is loaded. Imports Oumi once.
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.core.findings import Finding, errors_of
from flows.launcher.oumi.trainer_checks import trainer_problems
from tests.checks.corpus_world import Case, World

MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text())
JSONL = [{"dataset_name": "text_sft_jsonl", "dataset_path": "data/train.jsonl"}]
PAIRS = [{"dataset_name": "text_dpo_jsonl", "dataset_path": "data/pairs.jsonl"}]
BASE: dict[str, Any] = {
    "model": {"model_name": "./model"},
    "data": {"train": {"datasets": JSONL}},
    "training": {"trainer_type": "TRL_SFT"},
}
SFT: dict[str, Any] = {}
LORA = {"training.use_peft": True, "peft.lora_r": 8}
DPO = {"training.trainer_type": "TRL_DPO", "data.train.datasets": PAIRS}
GRPO = {
    "training.trainer_type": "TRL_GRPO",
    "training.reward_functions": ["gsm8k"],
    "data.train.datasets": [{"dataset_name": "org/sft"}],
}
OUMI = {"training.trainer_type": "OUMI"}
VALIDATED = {"data.validation.datasets": JSONL}

BASES = {
    "sft": SFT,
    "lora": LORA,
    "dpo": DPO,
    "grpo": GRPO,
    "oumi": OUMI,
    "validated": VALIDATED,
}
CORRECT: dict[str, dict[str, Any]] = {
    **BASES,
    "hf": {"training.trainer_type": "HF"},
    "evaluated": VALIDATED | {"training.eval_strategy": "steps", "training.eval_steps": 10},
    "best": VALIDATED
    | {"training.eval_strategy": "epoch", "training.save_epoch": True, "training.save_steps": 0}
    | {"training.trainer_kwargs": {"load_best_model_at_end": True}},
    "tuned": {
        "training.optimizer": "adafactor",
        "training.lr_scheduler_type": "cosine_with_min_lr",
        "training.lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "training.warmup_ratio": 0.1,
        "training.trainer_kwargs": {"packing": True, "neftune_noise_alpha": 5},
        "training.gradient_checkpointing_kwargs": {"use_reentrant": False},
        "training.dataloader_num_workers": "auto",
        "training.log_level": "warning",
        "model.attn_implementation": "sdpa",
        "model.device_map": "cuda:0",
        "model.chat_template": "zephyr",
    },
    "streamed": {"data.train.stream": True, "training.max_steps": 5},
    "answers": {
        "data.train.collator_name": "text_completions_only_with_padding",
        "data.train.train_target": "ALL_ASSISTANT_TURNS",
    },
    "generations": GRPO
    | {"training.grpo.num_generations": 4, "training.per_device_train_batch_size": 4},
}


def config(*changes: dict[str, Any]) -> dict[str, Any]:
    """The base with changes."""
    content = copy.deepcopy(BASE)
    for key, value in {k: v for change in changes for k, v in change.items()}.items():
        at = content
        *parents, leaf = key.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return content


async def look(world: World, content: dict[str, Any]) -> list[Finding]:
    options = {"gpu": "H200:1", "without": "flash_attn,bitsandbytes"}
    return await world.findings(Case("one", yaml.safe_dump(content), options=options))


async def test_mistakes_are_reported_before_the_launch(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    missed: list[str] = []
    for mistake in MISTAKES:
        changes = mistake["change"]
        key = mistake.get("key", next(iter(changes)))
        errors = errors_of(await look(world, config(BASES[mistake["base"]], changes)))
        if not any(error.key.startswith(key) for error in errors):
            found = [(error.key, error.message[:80]) for error in errors]
            missed.append(f"{mistake['name']}: {found}")
    with capsys.disabled():
        print(f"\nmistakes: {len(MISTAKES) - len(missed)} of {len(MISTAKES)}")
    assert missed == []
    assert len(MISTAKES) >= 51


async def test_correct_configs_have_no_finding_of_the_trainer(world: World) -> None:
    found: list[str] = []
    for name, changes in CORRECT.items():
        refused = [
            one for one in await look(world, config(changes)) if one.code == "refused_by_oumi"
        ]
        found += [f"{name}: {one.key} {one.message}" for one in refused]
    assert found == []


def test_generations_are_counted_over_all_processes(tmp_path: Path) -> None:
    content = config(GRPO, {"training.per_device_train_batch_size": 2})

    def refused(processes: int | None) -> list[str]:
        problems = trainer_problems(content, [], folder=tmp_path, processes=processes)
        return [problem.message for problem in problems]

    (message,) = refused(1)
    assert "divisible by num_generations (8). That is with 1 process: change gpus" in message
    assert refused(4) == refused(None) == []
    assert "with 3 processes" in refused(3)[0]


def test_nothing_of_the_worker_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    content = config(
        {
            "training.enable_tensorboard": True,
            "training.compile": True,
            "training.mixed_precision_dtype": "BF16",
            "training.trainer_kwargs": {"torch_compile_backend": "inductor"},
        }
    )
    trainer_problems(content, [], folder=tmp_path, processes=1)
    before = dict(os.environ)
    assert trainer_problems(content, [], folder=tmp_path, processes=1) == []
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
