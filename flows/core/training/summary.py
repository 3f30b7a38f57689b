"""Describes the metrics of a job: first, last, least, greatest, best value, and a short series."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import Field

from flows.core.models import Value
from flows.core.numbers import Number
from flows.core.training.directions import Direction, direction_of
from flows.core.training.record import TrainingRecord
from flows.core.training.series import Extreme, Series, greatest, least, thin

_MAIN: Final = ("loss", "train/loss", "eval_loss", "reward", "learning_rate", "grad_norm")
"""Metrics that are described when none is asked for, and exist: best first."""
_MAIN_KEYS: Final = 6
_POINT_BYTES: Final = 18
_SERIES_BYTES: Final = 8_000
"""Bytes of all series of an answer, unless more points are asked for."""
POINTS: Final = 100
_LEAST_POINTS: Final = 10
_DIGITS: Final = 6


class Point(Value):
    """A value and the training step it was logged at."""

    step: int
    value: Number


class MetricSummary(Value):
    """One metric of a job."""

    key: str
    count: int = Field(description="Values that were logged, of the steps that count.")
    not_finite: int = Field(default=0, description="How many of them are NaN or infinite.")
    first: Point
    last: Point
    min: Point | None = Field(description="Null: no value is finite.")
    max: Point | None
    best: Point | None = Field(description="Null: its name does not tell which way is better.")
    series: list[tuple[int, Number]] = Field(
        description="[step, value], thinned so that every spike stays."
    )


class JobMetrics(Value):
    """The metrics of a job."""

    job_id: str
    name: str = ""
    keys: list[MetricSummary]
    other_keys: list[str] = Field(
        default_factory=list[str], description="Metrics that were not asked for."
    )


def describe_metrics(
    record: TrainingRecord, *, job_id: str, keys: Sequence[str], points: int, since_step: int | None
) -> JobMetrics:
    """Describe metrics of a job. Blocking: it reads files.

    Args:
        record: The training record of the job.
        job_id: The job.
        keys: Names of metrics; empty: those that matter most. Unknown ones are left out.
        points: Most points of a series.
        since_step: First step; None: from the beginning.
    """
    names = [name for name in record.names() if name not in ("step", "epoch")]
    chosen = [key for key in keys if key in names] if keys else main_metrics(names)
    summaries: list[MetricSummary] = []
    for key in chosen:
        series = record.read(key)
        series = series if since_step is None else series.since(since_step)
        if len(series.steps):
            summaries.append(_summarise(key, series, _share(points, len(chosen))))
    shown = {summary.key for summary in summaries}
    return JobMetrics(
        job_id=job_id, keys=summaries, other_keys=[name for name in names if name not in shown]
    )


def main_metrics(names: Sequence[str]) -> list[str]:
    """Choose the metrics that tell most about a training."""
    known = [name for name in _MAIN if name in names]
    judged = [name for name in names if direction_of(name) and name not in known]
    return [*known, *judged][:_MAIN_KEYS] or list(names[:_MAIN_KEYS])


def _share(points: int, keys: int) -> int:
    """Points of each series; an answer with the usual number keeps within its bytes."""
    if points > POINTS:
        return points
    return max(_LEAST_POINTS, min(points, _SERIES_BYTES // _POINT_BYTES // keys))


def _summarise(key: str, series: Series, points: int) -> MetricSummary:
    low, high = least(series), greatest(series)
    best = {Direction.LOWER: low, Direction.HIGHER: high}.get(direction_of(key) or Direction.LOWER)
    shown = thin(series, points)
    return MetricSummary(
        key=key,
        count=len(series.steps),
        not_finite=int(np.count_nonzero(~np.isfinite(series.values))),
        first=Point(step=int(series.steps[0]), value=_short(series.values[0])),
        last=Point(step=int(series.steps[-1]), value=_short(series.values[-1])),
        min=_point(low),
        max=_point(high),
        best=_point(best) if direction_of(key) else None,
        series=[
            (int(step), _short(value))
            for step, value in zip(shown.steps, shown.values, strict=True)
        ],
    )


def _point(extreme: Extreme | None) -> Point | None:
    return None if extreme is None else Point(step=extreme.step, value=_short(extreme.value))


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else float(value)
