"""Detect trainings that diverged: their last loss is not a finite number."""

import math
from collections.abc import Collection, Mapping
from typing import Final

from flows.core.numbers import to_json

DIVERGED: Final = "its training diverged"
"""Words in the message of every such job."""

_LOSSES: Final = ("loss", "train/loss", "train_loss")
"""Names of the last loss, best first: Transformers, Oumi's own trainer, mean of the whole run."""
_NORM: Final = "grad_norm"


def last_loss(metrics: Mapping[str, float]) -> float | None:
    """The last loss of the training that wrote the metrics; None if no training did."""
    return next((metrics[name] for name in _LOSSES if name in metrics), None)


def has_diverged(metrics: Mapping[str, float]) -> bool:
    """Whether the metrics are those of a training that diverged."""
    return bool(divergence(last_loss(metrics)))


def divergence(loss: float | None) -> str:
    """Describe the divergence of a training with this last loss; empty if it did not diverge."""
    if loss is None or math.isfinite(loss):
        return ""
    return f"{DIVERGED}: its last loss is {to_json(loss)}"


def raw_loss(loss: float, not_finite: Collection[str]) -> float:
    """Recover the loss of a log record from before Transformers replaced it.

    Transformers (5.16, `logging_nan_inf_filter`) replaces a loss that is not finite with the mean
    of the losses before, or with 0 if none was finite. The gradients of that record are not finite
    either. Such gradients alone prove nothing: half-precision training skips the step.

    Args:
        loss: The loss of the record.
        not_finite: The names of the record's values that are not finite.
    """
    is_hidden = _NORM in not_finite and (loss == 0 or len(not_finite) > 1)
    return math.nan if is_hidden and math.isfinite(loss) else loss
