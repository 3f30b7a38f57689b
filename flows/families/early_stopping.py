"""The median rule: which trials to stop early."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from flows.core.numbers import to_json
from flows.core.result_metrics import Point
from flows.core.sweeps.spec import Direction, EarlyStopping


def reason_to_stop(
    curve: Sequence[Point],
    others: Mapping[str, Sequence[Point]],
    rule: EarlyStopping,
    direction: Direction,
    *,
    losses: Sequence[Point] = (),
) -> str | None:
    """Say why a trial should be stopped; None: it should go on.

    Optuna's own median pruner compares with trials that are complete, not with those that run.

    Args:
        curve: The trial's metric by step so far.
        others: The metric by step of every other trial, by name.
        rule: When to judge.
        direction: Which way is better.
        losses: The trial's training loss by step so far; it only shows whether it diverged.
    """
    for name, points in (("it", curve), ("its loss", losses)):
        if _may_be_judged(points, rule) and not math.isfinite(points[-1].value):
            return f"diverged: at step {points[-1].step} {name} was {to_json(points[-1].value)}"
    if not _may_be_judged(curve, rule):
        return None
    step = curve[-1].step
    bests = [
        _best(other, step, direction) for other in others.values() if _has_reached(other, step)
    ]
    if len(bests) < rule.after_trials:
        return None
    best, typical = _best(curve, step, direction), median(bests)
    if not direction.better(typical, best):
        return None
    return f"at step {step} its best was {best:.4g}, the median of {len(bests)} is {typical:.4g}"


def _may_be_judged(points: Sequence[Point], rule: EarlyStopping) -> bool:
    return bool(points) and points[-1].step >= rule.after_steps


def _has_reached(curve: Sequence[Point], step: int) -> bool:
    return bool(curve) and curve[-1].step >= step and curve[0].step <= step


def _best(curve: Sequence[Point], step: int, direction: Direction) -> float:
    """The best value up to a step; the worst possible one if the trial has diverged by then."""
    values = [point.value for point in curve if point.step <= step]
    if not math.isfinite(values[-1]):
        return direction.worst
    return min(filter(math.isfinite, values), key=direction.order)
