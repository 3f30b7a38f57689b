"""Trainings that diverged: whose last loss is not a finite number."""

import math
from collections.abc import Collection, Mapping
from typing import Final

from flows.core.numbers import to_json

DIVERGED: Final = "its training diverged"
"""Words that the message of every such job has."""

_LOSSES: Final = ("loss", "train/loss", "train_loss")
"""Names of the last loss, best first: Transformers', Oumi's own trainer's, the whole run's mean."""
_NORM: Final = "grad_norm"


def last_loss(metrics: Mapping[str, float]) -> float | None:
    """The last loss of the training that left the metrics; None: they are of no training."""
    return next((metrics[name] for name in _LOSSES if name in metrics), None)


def has_diverged(metrics: Mapping[str, float]) -> bool:
    """Whether the metrics are those of a training that diverged."""
    return bool(divergence(last_loss(metrics)))


def divergence(loss: float | None) -> str:
    """What to say of a training with this last loss if it diverged; empty if it did not."""
    if loss is None or math.isfinite(loss):
        return ""
    return f"{DIVERGED}: its last loss is {to_json(loss)}"


def raw_loss(loss: float, not_finite: Collection[str]) -> float:
    """The loss of a log record, as it was before Transformers replaced it.

    Transformers (5.16, `logging_nan_inf_filter`) logs the mean of the losses before in place of
    one that is not finite, and 0 where all were so. The gradients of that record are not finite
    either. Those alone prove nothing: training in half precision skips such a step and goes on.

    Args:
        loss: The loss of the record.
        not_finite: The names of the record's values that are not finite.
    """
    is_hidden = _NORM in not_finite and (loss == 0 or len(not_finite) > 1)
    return math.nan if is_hidden and math.isfinite(loss) else loss
