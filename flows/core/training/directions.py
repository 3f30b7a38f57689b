"""Which way a metric improves, by its name."""

import re
from enum import StrEnum
from typing import Final


class Direction(StrEnum):
    """Which values of a metric are better."""

    LOWER = "lower"
    HIGHER = "higher"


_WORD: Final = re.compile(r"[a-z0-9]+")
# The names that Transformers, trl, verl, lm-eval and scikit-learn give their metrics.
_LOWER: Final = frozenset({"loss", "ppl", "perplexity", "error", "err", "wer", "cer", "mse", "mae"})
_HIGHER: Final = frozenset(
    {
        *("acc", "accuracy", "accuracies", "reward", "rewards", "score", "scores", "f1", "bleu"),
        *("rouge", "rouge1", "rouge2", "rougel", "precision", "recall", "auc", "match", "margins"),
        *("winrate", "pass"),
    }
)
_SPREAD: Final = frozenset({"std", "stderr", "var", "min", "max", "rejected"})
"""Words after which a name is no longer about how good a model is."""


def direction_of(name: str) -> Direction | None:
    """The direction of a metric; None if its name does not tell."""
    words = set(_WORD.findall(name.lower()))
    if words & _SPREAD:
        return None
    if words & _LOWER:
        return Direction.LOWER
    return Direction.HIGHER if words & _HIGHER else None
