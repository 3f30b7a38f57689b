"""Tells differences of results from noise: intervals and verdicts over replicates.

Replicates are runs of one config with different seeds.
"""

import math
import re
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, variance
from typing import Final, NamedTuple

from pydantic import Field

from flows.core.models import Value
from flows.core.numbers import Number

_SEED: Final = re.compile(r"(^|[._\]])(\w*_)?seed$", re.IGNORECASE)
_ERROR: Final = 0.05
"""How often results without a difference are called different at most."""


class Verdict(StrEnum):
    """Whether two groups of results differ."""

    DIFFERENT = "different"
    NOT_DISTINGUISHABLE = "not distinguishable"
    UNKNOWN = "unknown"


class Estimate(Value):
    """The mean of some results."""

    count: int
    mean: Number
    low: Number | None = Field(default=None, description="95 % interval; null: one result only.")
    high: Number | None = None


class Difference(NamedTuple):
    """What the results of `b` have more than those of `a`.

    Attributes:
        low: Lower end of the interval; None: not known.
        high: Upper end.
    """

    value: float
    low: float | None
    high: float | None
    verdict: Verdict


def is_seed(key: str) -> bool:
    """Whether a key, or the name of an environment variable, is that of a seed."""
    return _SEED.search(key) is not None


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of finite values, with Student's interval of 95 %."""
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(count=len(values), mean=mean)
    half = _quantile(len(values) - 1, 1) * math.sqrt(variance(values) / len(values))
    return Estimate(count=len(values), mean=mean, low=mean - half, high=mean + half)


def compare(a: Sequence[float], b: Sequence[float], *, comparisons: int = 1) -> Difference:
    """Compare two groups of finite values, by Welch's t-test.

    A single value is compared with the spread of the other group, as one more draw of it. Two
    single values, and groups without any spread, tell nothing.

    Args:
        a: Values of one config.
        b: Values of the other.
        comparisons: How many comparisons are made at once; by Bonferroni, all of them together
            call equal groups different in 5 % of all cases at most.
    """
    value = fmean(b) - fmean(a)
    spread = _spread(a, b)
    if spread is None:
        return Difference(value, None, None, Verdict.UNKNOWN)
    error, freedom = spread
    half = _quantile(freedom, comparisons) * error
    verdict = Verdict.DIFFERENT if abs(value) > half else Verdict.NOT_DISTINGUISHABLE
    return Difference(value, value - half, value + half, verdict)


def _spread(a: Sequence[float], b: Sequence[float]) -> tuple[float, float] | None:
    """The standard error of the difference of means, and its degrees of freedom."""
    if min(len(a), len(b)) > 1:
        parts = [variance(one) / len(one) for one in (a, b)]
        squares = sum(part**2 / (len(one) - 1) for part, one in zip(parts, (a, b), strict=True))
        if not squares:
            return None
        # With groups of different sizes Welch's freedom calls 9 % of equal ones different.
        least = min(len(a), len(b)) - 1
        freedom = sum(parts) ** 2 / squares if len(a) == len(b) else least
        return math.sqrt(sum(parts)), freedom
    many = max(a, b, key=len)
    if len(many) < 2:
        return None
    spread = variance(many) * (1 + 1 / len(many))
    return (math.sqrt(spread), len(many) - 1) if spread else None


def _quantile(freedom: float, comparisons: int) -> float:
    """How many standard errors a difference must exceed."""
    # It takes a quarter of a second to load, which a server's start must not.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - _ERROR / 2 / max(comparisons, 1)))
