"""Rules for a training that learns nothing."""

from typing import Final

import numpy as np

from flows.core.diagnosis.curves import Curves, middle, noise, spread
from flows.core.diagnosis.evidence import Evidence
from flows.core.diagnosis.findings import Finding, FindingKind
from flows.core.findings import Severity
from flows.core.training.series import Floats, Series

_ROWS: Final = 20
"""Rows from which on a plateau counts."""
_TINY_RATE: Final = 1e-6
_UNTRAINED: Final = 4.0
"""Loss per token above which a language model has learned little: 1 in 55 guesses is right."""
_LOG_TWO: Final = float(np.log(2))
"""The loss of preference learning that has learned nothing."""
_CONSTANT: Final = "and does not change"


def find_no_progress(evidence: Evidence, curves: Curves) -> Finding | None:
    """Find a training that has learned nothing since its start."""
    rate, norms = curves.rate.finite(), curves.grad_norm.finite()
    if len(rate.values) >= 10 and float(np.max(rate.values)) <= 1e-12:
        return _finding(
            f"The learning rate is 0 at all {len(rate.steps)} logged steps.",
            ["Set training.learning_rate, such as 2e-5, or 2e-4 with LoRA."],
            sure=True,
        )
    if len(norms.values) >= 10 and float(np.max(norms.values)) <= 1e-9:
        return _zero_gradients(norms, curves.loss.finite())
    if curves.has_reward:
        return _find_constant_reward(curves.reward.finite())
    return _find_plateau(evidence, curves)


def _zero_gradients(norms: Series, loss: Series) -> Finding:
    return _finding(
        f"The gradients' norm is 0 at all {len(norms.steps)} logged steps{_loss_words(loss)}.",
        [
            "Check that rows have trained tokens: oumi-flows preview shows them. A chat "
            "template or collator that finds no answer masks everything.",
            "Raise model.model_max_length, if the answers are cut off.",
            "Check that some parameters are trained: training.use_peft with peft settings.",
        ],
        sure=True,
    )


def _find_constant_reward(reward: Series) -> Finding | None:
    values = reward.values
    if len(values) < _ROWS or float(np.ptp(values)) > 1e-9:
        return None
    return _finding(
        f"The reward is {values[0]:.4g} at all {len(values)} logged steps: answers of equal "
        "reward teach nothing.",
        [
            "Call the reward function on a few answers: it may find none it can read.",
            "Raise max_completion_length, if all answers are cut off.",
            "Start with easier prompts, or give partial rewards.",
        ],
        sure=True,
    )


def _find_plateau(evidence: Evidence, curves: Curves) -> Finding | None:
    loss = _after_warmup(curves.loss.finite(), curves.rate.finite())
    if len(loss.values) < _ROWS or _began_late(evidence, curves.loss) or _warms_up(curves.rate):
        return None
    peak = float(np.max(curves.rate.values)) if len(curves.rate.values) else None
    cause = _why_flat(loss.values, peak, curves) if _is_flat(loss.values) else ""
    if not cause:
        return None
    return _finding(
        f"The loss is {middle(loss.values):.4g} from step {loss.steps[0]} to step "
        f"{loss.steps[-1]} ({len(loss.steps)} logged values), {cause}.",
        [
            _raise_rate(peak),
            "Check that rows have trained tokens: oumi-flows preview shows them.",
            "Check that some parameters are trained: training.use_peft with peft settings.",
            "Try 50 steps on 10 rows: a training that works learns them by heart.",
        ],
        sure=cause == _CONSTANT,
    )


def _why_flat(values: Floats, peak: float | None, curves: Curves) -> str:
    """What a flat loss shows; empty: perhaps a training that has learned all."""
    level = middle(values)
    if level <= 1e-9 or spread(values) <= 1e-7 * level:
        return _CONSTANT
    if peak is not None and peak <= _TINY_RATE and not curves.is_preference:
        return f"with a learning rate of at most {peak:.2g}"
    if curves.is_preference and abs(level - _LOG_TWO) < 0.003:
        return "which is that of guessing"
    if level >= _UNTRAINED and not curves.is_preference:
        return "which is that of a model that has learned little"
    return ""


def _is_flat(values: Floats) -> bool:
    """Whether the values surely neither fall nor fell, to half a percent of their level."""
    part = max(5, len(values) // 4)
    head, tail = values[:part], values[-part:]
    level = abs(middle(values))
    sigma = max(noise(values), spread(values))
    error = sigma * float(np.sqrt(2 / part))
    fall = middle(head) - middle(tail)
    began_high = float(np.max(values[:3])) > middle(values) + max(4 * spread(values), 0.05 * level)
    return not began_high and abs(fall) + 1.5 * error < 0.015 * level + 1e-12


def _after_warmup(loss: Series, rate: Series) -> Series:
    """The part of a loss from where the learning rate is half of its greatest on."""
    if not len(rate.values):
        return loss
    first = int(np.argmax(rate.values >= 0.5 * np.max(rate.values)))
    return loss.since(int(rate.steps[first]))


def _warms_up(rate: Series) -> bool:
    """Whether the learning rate still rises."""
    values = rate.values
    return len(values) > 3 and bool(values[-1] > 1.01 * values[len(values) // 2])


def _began_late(evidence: Evidence, loss: Series) -> bool:
    """Whether the record begins with a checkpoint, which has learned before."""
    begins = [event.get("step") for event in evidence.events if event.get("kind") == "begin"]
    if begins and isinstance(begins[0], int):
        return begins[0] > 0
    gaps = np.diff(loss.steps)
    return len(gaps) > 0 and int(loss.steps[0]) > 5 * float(np.median(gaps))


def _loss_words(loss: Series) -> str:
    return f", and the loss is {middle(loss.values):.4g}" if len(loss.values) else ""


def _raise_rate(peak: float | None) -> str:
    if peak is None or peak > 1e-5:
        return "Change training.learning_rate by a factor of 10, up or down."
    return f"Raise training.learning_rate: {peak:.2g} is too low; 2e-5 is usual, 2e-4 with LoRA."


def _finding(text: str, steps: list[str], *, sure: bool) -> Finding:
    severity = Severity.ERROR if sure else Severity.WARNING
    return Finding(kind=FindingKind.NO_PROGRESS, severity=severity, evidence=text, try_=steps)
