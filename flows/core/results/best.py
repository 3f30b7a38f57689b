"""Which checkpoint of a training is the best, and by which metric."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, cast

from flows.core.checks.values import mapping_of
from flows.core.configs.marks import STATE
from flows.core.numbers import to_count, to_number
from flows.core.results.values import BestCheckpoint
from flows.core.training.directions import Direction, direction_of

_LOSSES: Final = ("eval_loss", "loss")
_EVALUATED: Final = "eval_"


class LoggedValue(NamedTuple):
    """The value of a metric at a step."""

    metric: str
    step: int
    value: float


def find_best(
    steps: Sequence[int], state: Mapping[str, Any], recorded: Sequence[LoggedValue]
) -> BestCheckpoint | None:
    """Find the best checkpoint; None if no metric tells.

    Args:
        steps: The steps of the whole checkpoints.
        state: The newest ``trainer_state.json``; empty if there is none.
        recorded: Values of the training record, in case the state has none.
    """
    logged = list(_read_history(state))
    return (
        _name_by_trainer(steps, state, logged)
        or _compare(steps, logged, source=f"log_history of {STATE}")
        or _compare(steps, recorded, source="the training record")
    )


def _name_by_trainer(
    steps: Sequence[int], state: Mapping[str, Any], logged: Sequence[LoggedValue]
) -> BestCheckpoint | None:
    """The checkpoint that the trainer itself names."""
    name = PurePosixPath(str(state.get("best_model_checkpoint") or "")).name
    step = to_count(name.rpartition("-")[2])
    if step is None or step not in steps:
        return None
    value = to_number(state.get("best_metric"))
    metrics = [one.metric for one in logged if one.step == step and one.value == value]
    source = f"best_model_checkpoint of {STATE}"
    return BestCheckpoint(
        step=step, metric=_first(metrics) or "best_metric", value=value, source=source
    )


def _compare(
    steps: Sequence[int], logged: Sequence[LoggedValue], *, source: str
) -> BestCheckpoint | None:
    """The checkpoint with the best value of the metric that says most."""
    metric = _first({one.metric for one in logged if _is_comparable(one.metric)})
    if not metric:
        return None
    values = _at_steps(steps, [one for one in logged if one.metric == metric])
    sign = -1 if direction_of(metric) is Direction.HIGHER else 1
    best = min(values, key=lambda one: (sign * one.value, one.step), default=None)
    if best is None:
        return None
    return BestCheckpoint(step=best.step, metric=metric, value=best.value, source=source)


def _at_steps(steps: Sequence[int], logged: Sequence[LoggedValue]) -> Iterator[LoggedValue]:
    """The last finite value at or before each step, after the checkpoint before it."""
    before = -1
    for step in sorted(steps):
        found = [one for one in logged if before < one.step <= step and math.isfinite(one.value)]
        if found:
            yield max(found, key=lambda one: one.step)._replace(step=step)
        before = step


def _is_comparable(metric: str) -> bool:
    return metric in _LOSSES or (metric.startswith(_EVALUATED) and direction_of(metric) is not None)


def _first(metrics: "set[str] | list[str]") -> str:
    """The metric that says most of a model: its loss on other data, then other evaluations."""
    return min(metrics, key=lambda name: (name == _LOSSES[1], name != _LOSSES[0], name), default="")


def _read_history(state: Mapping[str, Any]) -> Iterator[LoggedValue]:
    history: object = state.get("log_history")
    for entry in cast("list[object]", history) if isinstance(history, list) else ():
        fields = mapping_of(entry)
        step = to_count(fields.get("step"))
        for name, raw in fields.items():
            value = to_number(raw)
            if step is not None and value is not None:
                yield LoggedValue(name, step, value)
