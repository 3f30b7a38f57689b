"""The noise of a sweep: trials that differ only in a seed are replicates of one config."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flows.core.noise import Estimate, Verdict, compare, estimate, is_seed
from flows.core.sweeps.spec import Direction

Config = tuple[tuple[str, str], ...]
"""Values of a trial but seeds, by key."""


class Standing(NamedTuple):
    """How one config did over its seeds.

    Attributes:
        estimate: The mean of its trials.
        verdict: Whether it differs from the best; None: it is the best.
    """

    estimate: Estimate
    verdict: Verdict | None

    @property
    def words(self) -> str:
        """One remark for people."""
        mean = self.estimate
        said = f"mean {mean.mean:.6g} of {mean.count} seeds"
        if mean.low is not None and mean.high is not None:
            said += f", {mean.low:.6g} to {mean.high:.6g}"
        if self.verdict is None:
            return f"{said}; the best config"
        if self.verdict is Verdict.UNKNOWN:
            return said
        return f"{said}; {self.verdict} from the best"


def config_of(values: Mapping[str, object]) -> Config:
    """Return the values of a trial without seeds."""
    return tuple(sorted((key, str(value)) for key, value in values.items() if not is_seed(key)))


def stand(
    trials: Sequence[tuple[Mapping[str, object], float]], direction: Direction
) -> dict[Config, Standing]:
    """Compare configs over their seeds; empty if no config has two trials.

    The best of several is chosen by the same results, so each pair of configs counts as a
    comparison.

    Args:
        trials: Values and finite metric of each trial.
        direction: Which way is better.
    """
    groups: dict[Config, list[float]] = {}
    for values, value in trials:
        if math.isfinite(value):
            groups.setdefault(config_of(values), []).append(value)
    if all(len(group) < 2 for group in groups.values()):
        return {}
    means = {config: estimate(group) for config, group in groups.items()}
    best = min(means, key=lambda config: direction.order(means[config].mean))
    pairs = len(groups) * (len(groups) - 1) // 2
    return {
        config: Standing(
            means[config],
            None if config == best else compare(groups[best], group, comparisons=pairs).verdict,
        )
        for config, group in groups.items()
    }
