"""Curves of a training, and robust figures of them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from flows.core.training.series import EMPTY, Floats, Series

_LOSSES: Final = ("loss", "train/loss", "training/loss")
_EVAL_LOSSES: Final = ("eval_loss", "eval/loss", "validation/loss", "val_loss")
_GRAD_NORMS: Final = ("grad_norm", "train/grad_norm")
_RATES: Final = ("learning_rate", "train/learning_rate", "lr")
_REWARDS: Final = ("reward", "train/reward", "critic/rewards/mean", "objective/scores")
_DIVERGENCES: Final = ("kl", "train/kl", "objective/kl")
_TO_SIGMA: Final = 1.4826
"""Standard deviation of a normal distribution per median absolute deviation."""


class Curves(NamedTuple):
    """The curves that rules look at, by what they mean; empty where the training logs none.

    Attributes:
        loss: Loss of the training; may be not finite.
        eval_loss: Loss on the validation data; may be not finite.
        grad_norm: Norm of the gradients; may be not finite.
        rate: The learning rate.
        reward: Mean reward of reinforcement learning.
        kl: How far the policy is from its reference.
        is_preference: Whether it learns from pairs of answers, such as DPO.
    """

    loss: Series
    eval_loss: Series
    grad_norm: Series
    rate: Series
    reward: Series
    kl: Series
    is_preference: bool

    @property
    def has_reward(self) -> bool:
        """Whether it is reinforcement learning, whose loss says little."""
        return len(self.reward.steps) > 0


def pick_curves(series: Mapping[str, Series]) -> Curves:
    """Find the curves by the names that trainers give them."""

    def first(names: tuple[str, ...]) -> Series:
        return next((series[name] for name in names if name in series), EMPTY)

    return Curves(
        loss=first(_LOSSES),
        eval_loss=first(_EVAL_LOSSES),
        grad_norm=first(_GRAD_NORMS),
        rate=first(_RATES),
        reward=first(_REWARDS),
        kl=first(_DIVERGENCES),
        is_preference=any(name.endswith("rewards/chosen") for name in series),
    )


def smooth(values: Floats, width: int) -> Floats:
    """Return the running median over an odd number of values, as many as there are."""
    half = min(width // 2, (len(values) - 1) // 2)
    if half < 1:
        return values
    padded = np.pad(values, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    return np.median(windows, axis=1)


def noise(values: Floats) -> float:
    """Estimate the standard deviation of the noise from how far neighbours differ."""
    if len(values) < 3:
        return 0.0
    steps = np.diff(values)
    return float(_TO_SIGMA * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))


def spread(values: Floats) -> float:
    """Estimate the standard deviation of values, whatever outliers they have."""
    if not len(values):
        return 0.0
    return float(_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def middle(values: Floats) -> float:
    """Return the median; NaN of nothing."""
    return float(np.median(values)) if len(values) else float("nan")
