"""The metric that judges a job is checked before the job starts."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from flows.core.checks.launch import read_launch
from flows.core.checks.metrics import LOGGED, metric_findings
from flows.core.configs.reader import read_config
from flows.core.models import Command

EVALUATED = """
data:
  train: {datasets: [{dataset_name: text_sft}]}
  validation: {datasets: [{dataset_name: text_sft}]}
training: {trainer_type: TRL_SFT, eval_strategy: steps}
"""
PLAIN = "training: {trainer_type: TRL_SFT}\n"
GRPO = "training: {trainer_type: TRL_GRPO, reward_functions: [gsm8k]}\n"
TASKS = "tasks: [{evaluation_backend: lm_harness, task_name: mmlu}]\n"
JOB = "resources: {cloud: local}\nrun: |\n  oumi train -c train.yaml\n"


def verdict(
    tmp_path: Path,
    text: str,
    metric: str,
    command: Command = Command.TRAIN,
    envs: dict[str, str] | None = None,
) -> str:
    """The severity and the nearest name of the finding; empty if there is none."""
    (tmp_path / "train.yaml").write_text(PLAIN)
    (tmp_path / "config.yaml").write_text(text)
    config = read_config(tmp_path / "config.yaml")
    launch = read_launch(config, client_cwd=str(tmp_path), command=command, envs=envs)
    found = metric_findings(metric, launch)
    assert all(metric.rpartition(".")[2] in one.message for one in found)
    return " ".join(f"{one.severity}:{one.nearest}" for one in found)


@pytest.mark.parametrize(
    ("text", "metric", "says"),
    [
        (EVALUATED, "eval_loss", ""),
        (EVALUATED, "eval_mean_token_accuracy", ""),
        (EVALUATED, "eval_los", "error:eval_loss"),
        (EVALUATED, "Eval_Loss", "error:eval_loss"),
        (EVALUATED, "accuracy", "error:"),
        (PLAIN, "eval_loss", "error:"),
        (PLAIN, "eval_los", "error:eval_loss"),
        (PLAIN, "loss", ""),
        (PLAIN, "train_loss", ""),
        (PLAIN, "los", "error:loss"),
        (PLAIN, "mean_token_acuracy", "error:mean_token_accuracy"),
        (PLAIN, "rewards/margins", "error:"),
        (EVALUATED.replace("steps", "no"), "eval_loss", "error:"),
        (EVALUATED.replace("validation", "test"), "eval_loss", "error:"),
        (EVALUATED.replace("steps", "steps, metrics_function: f"), "eval_accuracy", ""),
        (PLAIN.replace("SFT", "DPO"), "rewards/margins", ""),
        (PLAIN.replace("SFT", "DPO"), "reward/margins", "error:rewards/margins"),
        (PLAIN.replace("SFT", "KTO"), "kl", ""),
        (PLAIN.replace("TRL_SFT", "OUMI"), "anything", ""),
        (PLAIN.replace("TRL_SFT", "VERL_GRPO"), "critic/score/mean", ""),
        (GRPO, "rewards/gsm8k/mean", ""),
        (GRPO, "rewrd", "error:reward"),
        (GRPO, "eval_reward", "error:"),
        ("model: {model_name: m}\n", "loss", ""),
    ],
)
def test_the_metric_of_a_training_is_one_that_its_trainer_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, metric: str, says: str
) -> None:
    monkeypatch.delenv("OUMI_EXTRA_DEPS_FILE", raising=False)
    assert verdict(tmp_path, text, metric) == says


def test_code_of_a_users_own_may_log_any_metric(tmp_path: Path) -> None:
    envs = {"OUMI_EXTRA_DEPS_FILE": "mine.txt"}
    assert verdict(tmp_path, PLAIN, "mine", envs=envs) == "warning:"


@pytest.mark.parametrize(
    ("text", "metric", "command", "says"),
    [
        (TASKS, "mmlu.acc", Command.EVALUATE, ""),
        (TASKS, "mmlu_anatomy.acc", Command.EVALUATE, ""),
        (TASKS, "acc", Command.EVALUATE, ""),
        (TASKS, "my_score", Command.EVALUATE, ""),
        (TASKS, "mmul.acc", Command.EVALUATE, "warning:mmlu"),
        (TASKS, "exact_mach", Command.EVALUATE, "warning:exact_match"),
        (TASKS, "eval_loss", Command.EVALUATE, "warning:"),
        ("model: {model_name: m}\n", "score", Command.INFER, "warning:"),
        (JOB, "lss", Command.TRAIN, "warning:loss"),
        (JOB, "my_own_score", Command.TRAIN, ""),
        (JOB + '  echo {\\"lss\\": 1}\n', "lss", Command.TRAIN, ""),
        ("resources: {cloud: local}\nrun: ./x\n", "lss", Command.TRAIN, ""),
    ],
)
def test_other_commands_and_scripts_are_only_warned_about(
    tmp_path: Path, text: str, metric: str, command: Command, says: str
) -> None:
    assert verdict(tmp_path, text, metric, command) == says


_SOURCES = {
    "TRL_SFT": ["trl.trainer.sft_trainer"],
    "TRL_DPO": ["trl.trainer.dpo_trainer"],
    "TRL_KTO": ["trl.experimental.kto.kto_trainer"],
    "TRL_GRPO": ["trl.trainer.grpo_trainer"],
    "TRL_GKD": ["trl.trainer.sft_trainer", "trl.experimental.gkd.gkd_trainer"],
    "TRL_GOLD": ["trl.trainer.sft_trainer", "trl.experimental.gold.gold_trainer"],
}
_METRIC = re.compile(r'(?:_metrics\[[^]]*\]|\bmetrics|\blogs)\["([^"{]+)"\]')


@pytest.mark.parametrize("trainer", _SOURCES)
def test_the_metrics_of_a_trainer_are_those_of_the_installed_one(trainer: str) -> None:
    def written(module: str) -> set[str]:
        imported: Any = import_module(module)
        return set(_METRIC.findall(inspect.getsource(imported)))

    logged = {name for module in _SOURCES[trainer] for name in written(module)}
    assert logged, "no name was found in the source"
    assert logged - LOGGED[trainer] == set()
