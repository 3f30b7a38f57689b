"""Choose the values of the next trial from the existing trials, without other state."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from flows.core.sweeps.spec import Direction, Range, Scalar, Search, Space, Sweep, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_TOP_SEED: Final = 2**32
_STARTUP_TRIALS: Final = 5
"""Trials that Optuna's sampler draws at random before it learns (optuna's own default is 10)."""


class Tried(NamedTuple):
    """A trial that has ended; its value is None if it failed."""

    values: Values
    value: float | None


def values_of(sweep: Sweep, number: int, tried: Sequence[Tried]) -> Values:
    """Choose the values of the trial with this number; the first trial is 0.

    The same trials give the same values, so a sweep continues in the same way after a restart.
    """
    match sweep.search:
        case Search.GRID:
            return in_order(sweep)[number]
        case Search.RANDOM:
            generator = random.Random(f"{sweep.seed}/{number}")  # noqa: S311 - no secret
            return {key: _draw(one, generator) for key, one in sweep.space.items()}
        case Search.OPTUNA:
            return _suggest(sweep, number, tried)


def in_order(sweep: Sweep) -> list[Values]:
    """List the combinations of a sweep that tries them in order.

    Raises:
        InvalidConfig: A range has infinitely many values.
    """
    return sweep.points or grid(sweep.space)


def grid(space: Space) -> list[Values]:
    """List all combinations; the last key changes fastest.

    Raises:
        InvalidConfig: A range has infinitely many values.
    """
    axes = [one.values() if isinstance(one, Range) else one for one in space.values()]
    return [dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*axes)]


def grid_size(space: Space) -> int:
    """Count the combinations, without making them."""
    size = 1
    for one in space.values():
        size *= len(one.values() if isinstance(one, Range) else one)
    return size


def _draw(one: Sequence[Scalar] | Range, generator: random.Random) -> Scalar:
    if not isinstance(one, Range):
        return generator.choice(one)
    if one.step is not None:
        return generator.choice(one.values())
    if one.log:
        drawn = math.exp(generator.uniform(math.log(one.low), math.log(one.high)))
        return round(drawn) if one.is_whole else drawn
    if one.is_whole:
        return generator.randint(int(one.low), int(one.high))
    return generator.uniform(one.low, one.high)


def _suggest(sweep: Sweep, number: int, tried: Sequence[Tried]) -> Values:
    """Ask Optuna for values, given all trials."""
    # Imported here: it takes half a second.
    import optuna
    from optuna.trial import FrozenTrial, TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(one) for key, one in sweep.space.items()}
    minimize = sweep.direction is Direction.MINIMIZE
    study = optuna.create_study(
        direction="minimize" if minimize else "maximize",
        # A new sampler must not repeat the values of earlier ones.
        sampler=optuna.samplers.TPESampler(
            seed=random.Random(f"{sweep.seed}/{number}").randrange(_TOP_SEED),  # noqa: S311
            n_startup_trials=_STARTUP_TRIALS,
        ),
    )
    for one in tried:
        trial: FrozenTrial = create_trial(
            state=TrialState.FAIL if one.value is None else TrialState.COMPLETE,
            value=one.value,
            params=_as_optuna(one.values, sweep.space),
            distributions=distributions,
        )
        study.add_trial(trial)
    suggested = cast("Mapping[str, Any]", study.ask(distributions).params)
    return {key: _from_optuna(value, sweep.space[key]) for key, value in suggested.items()}


def _distribution(one: Sequence[Scalar] | Range) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(one, Range):
        return CategoricalDistribution(range(len(one)))
    if one.is_whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _as_optuna(values: Values, space: Space) -> dict[str, Any]:
    """Replace choices by their indexes, which Optuna distinguishes: it confuses 1 and True."""
    return {
        key: values[key] if isinstance(one, Range) else one.index(values[key])
        for key, one in space.items()
    }


def _from_optuna(value: Any, one: Sequence[Scalar] | Range) -> Scalar:
    return cast(Scalar, value if isinstance(one, Range) else one[value])
