"""Record the curves of real trainings of a tiny model, healthy and sick.

    python -m tests.diagnosis.provoking.curves

Needs the tiny model and data that `python -m tests.diagnosis.provoking` makes.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOGS = Path(__file__).parents[1] / "logs"
LAB = Path(__file__).parents[3] / ".cache/lab/curves"


def main() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    LAB.mkdir(parents=True, exist_ok=True)
    if not (LAB / "data").exists():
        (LAB / "data").symlink_to(LAB.parent / "data")
    shutil.copy(Path(__file__).with_name("tiny.py"), LAB)
    os.chdir(LAB)
    sys.path.insert(0, str(LAB))
    path = LOGS / "curves.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, (kind, train) in RUNS.items():
        if name in found:
            continue
        history: list[dict[str, Any]] = train().state.log_history
        found[name] = {"kind": kind, "history": [_rounded(row) for row in history]}
        lines = (f"{json.dumps(one)}: {json.dumps(value)}" for one, value in found.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(name, len(history), flush=True)


def _rounded(row: dict[str, Any]) -> dict[str, float]:
    numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
    return {key: float(f"{value:.5g}") for key, value in numbers.items()}


def _sft(count: int = 300, *, change: Callable[[Any], None] | None = None, **more: Any) -> Any:
    import torch
    from datasets import Dataset
    from tiny import rows, sft

    torch.manual_seed(1)
    held = Dataset.from_list(rows(400)[340:]) if "eval_strategy" in more else None
    settings = {"logging_steps": 2, "learning_rate": 5e-3, "max_steps": 80} | more
    trainer = sft(Dataset.from_list(rows(count)), held, **settings)
    if change:
        change(trainer)
    trainer.train()
    return trainer


def _spoil(trainer: Any) -> None:
    """Make a weight not finite in the middle of the training."""
    import torch
    from transformers import TrainerCallback

    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **more: Any) -> None:
            if state.global_step == 40:
                with torch.no_grad():
                    next(model.parameters())[0, 0] = float("nan")

    trainer.add_callback(Spoil())


def _grpo(reward: Callable[..., list[float]]) -> Any:
    import torch
    from datasets import Dataset
    from tiny import MODEL
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(1)
    args = GRPOConfig(
        "out", use_cpu=True, report_to=[], max_steps=24, logging_steps=1, save_strategy="no",
        per_device_train_batch_size=4, num_generations=4, max_completion_length=8, learning_rate=1e-3,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": f"{n} + 1"} for n in range(8)] * 4)
    trainer = GRPOTrainer(MODEL, reward, args=args, train_dataset=data)  # pyright: ignore[reportArgumentType]
    trainer.train()
    return trainer


def _dpo() -> Any:
    import torch
    from datasets import Dataset
    from tiny import model, tokenizer
    from trl import DPOConfig, DPOTrainer

    torch.manual_seed(1)
    args = DPOConfig(
        "out", use_cpu=True, report_to=[], max_steps=40, logging_steps=1, save_strategy="no",
        per_device_train_batch_size=4, learning_rate=1e-3,
    )  # fmt: skip
    pairs = [{"prompt": f"{n}?", "chosen": " yes, yes", "rejected": " no"} for n in range(64)]
    trainer = DPOTrainer(
        model(), args=args, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer()
    )
    trainer.train()
    return trainer


def _letters(completions: list[str], **more: Any) -> list[float]:
    return [float(len(set(text))) for text in completions]


def _nothing(completions: list[str], **more: Any) -> list[float]:
    return [0.0] * len(completions)


RUNS: dict[str, tuple[str, Callable[[], Any]]] = {
    "real-healthy": ("", _sft),
    "real-rate-zero": ("no_progress", lambda: _sft(learning_rate=0.0, max_steps=40)),
    "real-diverges": (
        "diverging",
        lambda: _sft(learning_rate=3.0, warmup_steps=50, max_grad_norm=1e9, max_steps=100),
    ),
    "real-not-finite": ("not_finite", lambda: _sft(change=_spoil)),
    "real-grpo": ("", lambda: _grpo(_letters)),
    "real-grpo-no-reward": ("no_progress", lambda: _grpo(_nothing)),
    "real-dpo": ("", _dpo),
    "real-overfits": (
        "overfitting",
        lambda: _sft(24, eval_strategy="steps", eval_steps=20, max_steps=200, learning_rate=1e-2),
    ),
    "real-learned-by-heart": ("", lambda: _sft(8, max_steps=200)),
    "real-batch-of-one": ("", lambda: _sft(per_device_train_batch_size=1)),
    "real-restarts": (
        "",
        lambda: _sft(
            lr_scheduler_type="cosine_with_restarts", lr_scheduler_kwargs={"num_cycles": 4}
        ),
    ),
}


if __name__ == "__main__":
    main()
