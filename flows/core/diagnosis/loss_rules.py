"""Rules over the curves of a training's losses and gradients."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from flows.core.diagnosis.curves import Curves, middle, noise, smooth, spread
from flows.core.diagnosis.evidence import Evidence
from flows.core.diagnosis.findings import Finding, FindingKind
from flows.core.findings import Severity
from flows.core.numbers import to_json
from flows.core.training.series import Floats, Series

_HIDDEN_BY: Final = ("entropy", "mean_token_accuracy", "train/entropy")
"""Metrics of the same pass as the loss: if they are not finite, the loss was not either."""
_LOST_GRADIENTS: Final = 10
"""Rows in a row without finite gradients after which nothing is learned. Half-precision training
skips a few such steps while it looks for its scale."""


class _Rise(NamedTuple):
    """A loss that rose: the rows of its best and of the crossing to the new level, and both."""

    at: int
    crossing: int
    best: float
    end: float


def find_not_finite(evidence: Evidence, curves: Curves) -> Finding | None:
    """Find losses or gradients that are not finite."""
    loss = curves.loss
    bad = ~np.isfinite(loss.values) | _hidden(evidence.series, curves)
    if bool(bad.any()):
        return _not_finite("loss", loss, bad, evidence)
    norms = curves.grad_norm
    lost = len(norms.values) - _end_of_last(np.isfinite(norms.values))
    if lost >= _LOST_GRADIENTS:
        return _not_finite("grad_norm", norms, ~np.isfinite(norms.values), evidence)
    bad = ~np.isfinite(curves.eval_loss.values)
    if bool(bad.any()):
        return _not_finite("eval_loss", curves.eval_loss, bad, evidence)
    return None


def find_diverging(curves: Curves) -> Finding | None:
    """Find a loss that rose far from its best and stays there, or a policy that ran away."""
    if curves.has_reward:
        return _find_runaway(curves.kl.finite())
    loss = curves.loss.finite()
    rise = _find_rise(loss) if len(loss.values) >= 8 else None
    if rise is None:
        return None
    return Finding(
        kind=FindingKind.DIVERGING,
        severity=Severity.ERROR,
        evidence=f"The loss was {rise.best:.4g} at step {loss.steps[rise.at]}, rose from about "
        f"step {loss.steps[rise.crossing]}, and is {rise.end:.4g} at step {loss.steps[-1]}.",
        try_=_lower_rate(curves) + _back_to(int(loss.steps[rise.at])),
    )


def _find_rise(loss: Series) -> _Rise | None:
    """Find where a loss rose far from its best, and stays."""
    count = len(loss.values)
    level = smooth(loss.values, _width(count))
    at = int(np.argmin(level[: count - 2]))
    best, start = float(level[at]), middle(loss.values[: max(2, count // 30)])
    tail = max(4, min(count // 10, 100))
    end, low = middle(loss.values[-tail:]), float(np.quantile(loss.values[-tail:], 0.1))
    sigma = max(noise(loss.values), spread(loss.values[: at + 1] - level[: at + 1]))
    rise, far = end - best, max(6 * sigma, 0.5 * abs(best), 0.05)
    if not (rise > far and low - best > 0.5 * rise and rise > 0.5 * (start - best)):
        return None
    crossing = at + int(np.argmax(level[at:] > best + 0.5 * rise))
    after = level[crossing:]
    if len(after) < max(4, count // 50) or np.mean(after > best + 0.4 * rise) < 0.95:
        return None
    above_start = end > 1.5 * start and rise > abs(start)
    if not above_start and _recovers(after, best):
        return None
    return _Rise(at, crossing, best, end)


def find_collapsed(curves: Curves) -> Finding | None:
    """Find a loss that fell to nothing at once."""
    loss = curves.loss.finite()
    if curves.has_reward or curves.is_preference or len(loss.values) < 8:
        return None
    sizes = np.abs(loss.values)
    start = middle(sizes[: max(3, len(sizes) // 20)])
    tail = len(sizes) - _end_of_last(sizes > max(1e-6, 1e-3 * start))
    before = sizes[: len(sizes) - tail][-10:]
    level = middle(sizes[len(sizes) - tail :])
    if tail < 5 or len(before) < 2 or middle(before) < max(100 * level, 0.02 * start):
        return None
    first = len(sizes) - tail
    return Finding(
        kind=FindingKind.COLLAPSED,
        severity=Severity.ERROR,
        evidence=f"The loss fell from {middle(before):.4g} to {level:.3g} at step "
        f"{loss.steps[first]}, and stays there until step {loss.steps[-1]}.",
        try_=_check_labels(curves),
    )


def _check_labels(curves: Curves) -> list[str]:
    return [
        "Look at what the model answers: a loss of 0 means that no token is trained, or that "
        "the answer is part of the input.",
        "Check the labels: oumi-flows preview, with the rows after this step.",
        *_lower_rate(curves),
        "Set model.torch_dtype_str to bfloat16 or float32, if it is float16.",
    ]


def find_overfitting(curves: Curves) -> Finding | None:
    """Find a validation loss that rises while the loss of the training falls."""
    held, loss = curves.eval_loss.finite(), curves.loss.finite()
    at = _find_turn(held) if len(held.values) >= 4 and len(loss.values) >= 8 else None
    if at is None:
        return None
    width = _width(len(loss[0]))
    then, now = _loss_around(loss, int(held.steps[at])), middle(loss.values[-width:])
    if not now < then - max(0.03 * then, 2 * noise(loss.values) / np.sqrt(width)):
        return None
    return Finding(
        kind=FindingKind.OVERFITTING,
        severity=Severity.WARNING,
        evidence=f"The eval loss rose from {held.values[at]:.4g} at step {held.steps[at]} to "
        f"{held.values[-1]:.4g} at step {held.steps[-1]}, while the loss of the training fell from "
        f"{then:.4g} to {now:.4g}.",
        try_=_stop_earlier(int(held.steps[at])),
    )


def _find_turn(held: Series) -> int | None:
    """Find the row of the best validation loss, if it rises from there on."""
    at = int(np.argmin(held.values))
    best, after = float(held.values[at]), held.values[at + 1 :]
    if len(after) < 2 or best <= 0:
        return None
    end = middle(after[-3:])
    since = held.values[at:] if len(after) >= 5 else held.values
    sigma = noise(since) if len(held.values) > 5 else 0.0
    rises = float(np.mean(np.diff(held.values[at:]) > 0))
    if end - best < max(0.05 * best, 3 * sigma) or rises < 0.6 or float(after[-1]) < 1.04 * best:
        return None
    return at


def _stop_earlier(step: int) -> list[str]:
    return [
        f"Use the checkpoint next to step {step}.",
        f"Stop earlier: set training.max_steps to about {step}, or lower "
        "training.num_train_epochs.",
        "Set training.weight_decay, or with LoRA raise peft.lora_dropout or lower peft.lora_r.",
        "Train on more, or more varied, data.",
    ]


def find_spiky(curves: Curves) -> Finding | None:
    """Find gradients that jump far above their usual size again and again."""
    norms = curves.grad_norm.finite()
    norms = norms.part(norms.values > 0)
    norms = norms.part(slice(max(3, len(norms.values) // 20), None))
    count = len(norms.values)
    at = _find_spikes(norms.values) if count >= 30 else np.array([], dtype=int)
    if len(at) < max(4, count // 200):
        return None
    largest = int(at[np.argmax(norms.values[at])])
    steps = ", ".join(str(norms.steps[one]) for one in at[-5:])
    return Finding(
        kind=FindingKind.SPIKY,
        severity=Severity.WARNING,
        evidence=f"The gradients' norm spikes at {len(at)} of {count} logged steps, up to "
        f"{norms.values[largest]:.4g} at step {norms.steps[largest]}, against a median of "
        f"{middle(norms.values):.4g}; last at steps {steps}.",
        try_=_limit_gradients(curves),
    )


def _find_spikes(values: Floats) -> np.ndarray:
    """Find the rows that stand out from their neighbours by six times, and above the noise."""
    logs = np.log(values)
    over = logs - smooth(logs, 31)
    return np.flatnonzero(over > max(np.log(6.0), 5 * spread(over)))


def _limit_gradients(curves: Curves) -> list[str]:
    return [
        "Set training.max_grad_norm to 1.0 or lower.",
        "Look at the rows of these steps: very short, very long or odd ones cause spikes.",
        "Set training.warmup_ratio to 0.03 or more.",
        *_lower_rate(curves),
    ]


def _not_finite(name: str, series: Series, bad: np.ndarray, evidence: Evidence) -> Finding:
    at = np.flatnonzero(bad)
    first, last = int(at[0]), int(at[-1])
    is_over = len(series.steps) - 1 - last >= 3
    value = float(series.values[first])
    shown = "not finite" if np.isfinite(value) else str(to_json(value))
    before = series.part(slice(0, first)).finite()
    text = f"{name} is {shown} at step {series.steps[first]}"
    if len(before.steps):
        text += f", after {before.values[-1]:.4g} at step {before.steps[-1]}"
    else:
        text += ", the first that was logged"
    text += f"; {len(at)} of {len(series.steps)} logged values"
    text += f", the last at step {series.steps[last]}." if is_over else ", up to the end."
    return Finding(
        kind=FindingKind.NOT_FINITE,
        severity=Severity.WARNING if is_over else Severity.ERROR,
        evidence=text,
        try_=_list_remedies(name, is_first=not len(before.steps), evidence=evidence),
    )


def _list_remedies(name: str, *, is_first: bool, evidence: Evidence) -> list[str]:
    if name == "eval_loss":
        return ["Check the validation data: rows without a trained token have no loss."]
    rate = evidence.config.learning_rate
    lower = f" to {rate / 3:.2g}" if rate else ""
    steps = [
        f"Lower training.learning_rate{lower}, and set training.warmup_ratio to 0.03 or more.",
        "Set training.max_grad_norm to 1.0 or lower.",
        "Set model.torch_dtype_str to bfloat16 or float32, if it is float16.",
    ]
    data = "Check the data of this step: a row without a trained token has no loss."
    return [data, *steps] if is_first else [*steps, data]


def _hidden(series: Mapping[str, Series], curves: Curves) -> np.ndarray:
    """Where Transformers replaced a loss that was not finite; see `flows.core.divergence`."""
    loss, norms = curves.loss, curves.grad_norm
    lost = norms.steps[~np.isfinite(norms.values)]
    others = [series[name] for name in _HIDDEN_BY if name in series]
    odd = [one.steps[~np.isfinite(one.values)] for one in others]
    also = np.isin(loss.steps, np.concatenate(odd)) if odd else np.zeros(len(loss.steps), bool)
    return np.isin(loss.steps, lost) & ((loss.values == 0) | also)


def _find_runaway(kl: Series) -> Finding | None:
    """Find a policy that went far from its reference."""
    count = len(kl.values)
    if count < 20:
        return None
    tail = kl.values[-max(5, count // 10) :]
    before = middle(kl.values[: count // 2])
    if not (float(np.quantile(tail, 0.1)) > 10 and middle(tail) > 20 * max(before, 0.01)):
        return None
    return Finding(
        kind=FindingKind.DIVERGING,
        severity=Severity.ERROR,
        evidence=f"The policy's divergence from its reference (kl) is {middle(tail):.4g} at step "
        f"{kl.steps[-1]}, against {before:.4g} in the first half.",
        try_=[
            "Lower training.learning_rate to a third.",
            "Raise the weight of the divergence (beta) in training.trainer_kwargs.",
            "Read completions: a reward that can be gained without the task invites this.",
        ],
    )


def _width(count: int) -> int:
    return max(3, min(count // 20, 51)) | 1


def _recovers(after: Floats, best: float) -> bool:
    """Whether a level that rose is on its way back."""
    if len(after) < 6:
        return False
    peak = float(np.max(after[: max(2, len(after) // 2)]))
    end = middle(after[-max(2, len(after) // 5) :])
    return peak - end > 0.2 * (peak - best)


def _loss_around(loss: Series, step: int) -> float:
    at = int(np.searchsorted(loss.steps, step))
    half = max(1, _width(len(loss.steps)) // 2)
    return middle(loss.values[max(0, at - half) : at + half + 1])


def _end_of_last(mask: np.ndarray) -> int:
    """The index behind the last true one; 0 if none is true."""
    at = np.flatnonzero(mask)
    return int(at[-1]) + 1 if len(at) else 0


def _lower_rate(curves: Curves) -> list[str]:
    peak = float(np.max(curves.rate.values)) if len(curves.rate.values) else 0.0
    lower = f" from {peak:.2g} to {peak / 3:.2g}" if peak > 0 else " to a third"
    return [
        f"Lower training.learning_rate{lower}.",
    ]


def _back_to(step: int) -> list[str]:
    return [
        "Set training.warmup_ratio to 0.03 or more, and training.max_grad_norm to 1.0.",
        f"Go on from the last checkpoint before step {step} with the lower rate.",
        "Look at the rows after this step, if it rose at once.",
    ]
