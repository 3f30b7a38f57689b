"""Check that a job leaves the metric by which its results are judged.

The names are those of Oumi 0.9, Transformers 5.16 and TRL 1.6.
tests/checks/test_metrics.py compares them with what is installed.
"""

import os
from difflib import get_close_matches
from typing import Final

from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.checks.values import items_of, mapping_of, text_of
from flows.core.configs.schema import ConfigType
from flows.core.findings import Finding, FindingCode, Severity

_EVAL: Final = "eval_"
_SPEED: Final = frozenset({"runtime", "samples_per_second", "steps_per_second"})
_STEPS: Final = frozenset(
    {
        *("loss", "grad_norm", "learning_rate", "epoch", "step", "num_input_tokens_seen"),
        *("hf_train_step_mfu", "hf_train_mfu"),
    }
)
_END: Final = frozenset(
    {"train_loss", "total_flos", "train_tokens_per_second", *(f"train_{one}" for one in _SPEED)}
)
_SFT: Final = frozenset({"entropy", "mean_token_accuracy", "num_tokens", "aux_loss"})
_PAIRS: Final = frozenset(
    {
        *("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"),
        *("logps/rejected", "logits/chosen", "logits/rejected"),
    }
)
_MATCHED: Final = ("on_policy_loss", "off_policy_loss", "matched_loss", "unmatched_loss")
_GENERATED: Final = frozenset(
    {
        *(
            "reward",
            "reward_std",
            "frac_reward_zero_std",
            "kl",
            "entropy",
            "num_tokens",
            "step_time",
        ),
        *("clip_ratio", "cispo_clip_ratio", "vespo/phi_seq_mean", "aux_loss"),
        *(f"clip_ratio/{one}" for one in ("high_max", "high_mean", "low_mean", "low_min")),
        *("clip_ratio/region_mean", "completions/clipped_ratio"),
        *(
            f"completions/{one}_{length}"
            for one in ("max", "mean", "min")
            for length in ("length", "terminated_length")
        ),
        *(f"sampling/importance_sampling_ratio/{one}" for one in ("max", "mean", "min")),
        *(f"sampling/sampling_logp_difference/{one}" for one in ("max", "mean")),
        *("tools/call_frequency", "tools/failure_frequency"),
    }
)
LOGGED: Final = {
    "HF": frozenset[str](),
    "TRL_SFT": _SFT,
    "TRL_DPO": _SFT | _PAIRS | {"rewards/accuracies"},
    "TRL_KTO": _PAIRS | {"kl"},
    "TRL_GRPO": _GENERATED,
    "TRL_GKD": _SFT,
    "TRL_GOLD": _SFT | {*_MATCHED},
}
"""What each trainer logs, besides what Transformers logs for all; of others nothing is known."""

_TASKS: Final = frozenset(
    {
        *(
            "acc",
            "acc_norm",
            "acc_stderr",
            "exact_match",
            "f1",
            "bleu",
            "rouge1",
            "rouge2",
            "rougeL",
        ),
        *("bertscore", "perplexity", "word_perplexity", "byte_perplexity"),
        *(
            "bits_per_byte",
            "mc1",
            "mc2",
            "pass@1",
            "prompt_level_strict_acc",
            "inst_level_strict_acc",
            "mcc",
            "brier_score",
        ),
        *(
            "prompt_level_loose_acc",
            "inst_level_loose_acc",
            "win_rate",
            "length_controlled_winrate",
        ),
    }
)
"""Metrics of evaluations by well-known tasks; others have their own."""

_SILENT: Final = {
    ConfigType.INFERENCE: "infer",
    ConfigType.SYNTHESIS: "synth",
    ConfigType.QUANTIZATION: "quantize",
    ConfigType.ANALYZE: "analyze",
    ConfigType.JUDGE: "judge",
}
_OWN_CODE: Final = "OUMI_EXTRA_DEPS_FILE"
_PRINT: Final = 'or have the job print it, as in {"score": 0.9} on a line of its own'
_SKIP: Final = "or set skip_preflight if code of yours logs it"


def metric_findings(metric: str, launch: Launch) -> list[Finding]:
    """Find out why a job would not leave a metric; empty if it does, or may.

    Args:
        metric: The name of the metric, as `result_metrics.pick` reads it.
        launch: The launch of the job.
    """
    found = [_of_recipe(metric, recipe) for recipe in launch.recipes]
    if not found or None in found:
        return []
    first = next(one for one in found if one is not None)
    if launch.job is None:
        return [first]
    # A script may print any metric: only what looks like a misspelt name is reported.
    if metric in text_of(launch.job.data.get("run")) or not first.nearest:
        return []
    return [first.model_copy(update={"severity": Severity.WARNING})]


def _of_recipe(metric: str, recipe: Recipe) -> Finding | None:
    match recipe.config_type:
        case ConfigType.TRAINING:
            return _of_training(metric, recipe)
        case ConfigType.EVALUATION:
            return _of_evaluation(metric, recipe)
        case silent if silent in _SILENT:
            message = f"oumi {_SILENT[silent]} leaves no metrics, and so not {metric}"
            return _finding(recipe, Severity.WARNING, message, f"Judge it by another job, {_PRINT}")
        case _:
            return None


def _of_training(metric: str, recipe: Recipe) -> Finding | None:
    own = LOGGED.get(recipe.trainer.upper())
    if own is None:
        return None
    steps = _STEPS | own
    evaluation = {f"{_EVAL}{one}" for one in ({"loss"} | _SPEED | own)}
    name = metric.removeprefix(_EVAL)
    is_reward = own is _GENERATED and name.startswith("rewards/")  # one for each function
    measures_more = bool(recipe.get("training.metrics_function"))
    if metric in evaluation or (name != metric and (measures_more or is_reward)):
        return None if _evaluates(recipe) else _not_evaluated(metric, recipe)
    if metric in steps | _END or is_reward:
        return None
    known = steps | _END | (evaluation if _evaluates(recipe) else set[str]())
    nearest = _nearest(metric, known) or _nearest(metric, evaluation)
    if not _evaluates(recipe) and nearest in evaluation:
        return _not_evaluated(metric, recipe, nearest)
    severity = Severity.WARNING if _OWN_CODE in {*os.environ, *recipe.envs} else Severity.ERROR
    named = ", ".join(sorted({"loss", "train_loss"} | own | (known & {f"{_EVAL}loss"})))
    return _finding(
        recipe,
        severity,
        f"a training with {recipe.trainer.upper()} leaves no metric {metric}",
        f"{_did_you_mean(nearest)}Use one of {named}, {_SKIP}",
        nearest=nearest,
    )


def _evaluates(recipe: Recipe) -> bool:
    """Whether a training evaluates while it runs."""
    strategy = str(recipe.get("training.eval_strategy", "no")).lower()
    data = mapping_of(recipe.get("data.validation"))
    return strategy not in ("no", "false") and bool(items_of(data.get("datasets")))


def _not_evaluated(metric: str, recipe: Recipe, nearest: str = "") -> Finding:
    return _finding(
        recipe,
        Severity.ERROR,
        f"the metric {metric} is of an evaluation, and this training makes none",
        f"{_did_you_mean(nearest)}Set training.eval_strategy to steps or epoch and give "
        "data.validation, or use train_loss",
        nearest=nearest,
    )


def _of_evaluation(metric: str, recipe: Recipe) -> Finding | None:
    tasks = [mapping_of(one) for one in items_of(recipe.get("tasks"))]
    names = [name for one in tasks if (name := text_of(one.get("task_name")))]
    task, dot, name = metric.rpartition(".")
    if any(metric.startswith(one) for one in names):
        task = ""  # a task, or a part of it
    elif dot and len(names) == len(tasks):
        nearest = _nearest(task, names)
        known = ", ".join(names[:10])
        message = f"{metric} is of the task {task}, which the evaluation does not have"
        fix = f"{_did_you_mean(nearest and f'{nearest}.{name}')}Its tasks are {known}"
        return _finding(recipe, Severity.WARNING, message, fix, nearest=nearest)
    nearest = "" if name in _TASKS else _nearest(name, _TASKS)
    if nearest:
        message = f"no task that is well known has the metric {name}"
        return _finding(
            recipe, Severity.WARNING, message, f"Did you mean {nearest}?", nearest=nearest
        )
    if name in _STEPS | _END or name == f"{_EVAL}loss":
        message = f"{name} is a metric of a training, and oumi evaluate leaves those of its tasks"
        return _finding(recipe, Severity.WARNING, message, "Use a metric of a task")
    return None


def _nearest(name: str, known: "frozenset[str] | set[str] | list[str]") -> str:
    by_case = {one.lower(): one for one in known}
    close = get_close_matches(name.lower(), sorted(by_case), n=1, cutoff=0.75)
    return by_case[close[0]] if close else ""


def _did_you_mean(nearest: str) -> str:
    return f"Did you mean {nearest}? " if nearest else ""


def _finding(
    recipe: Recipe, severity: Severity, message: str, fix: str, *, nearest: str = ""
) -> Finding:
    return Finding(
        code=FindingCode.UNKNOWN_METRIC,
        severity=severity,
        message=message,
        fix=fix,
        file=recipe.path,
        nearest=nearest,
    )
