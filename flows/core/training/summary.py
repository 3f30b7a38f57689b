"""Describes the metrics of a job: first, last, least, greatest, best value, and a short series."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flows.core.redaction import hide_tokens
from flows.core.training.directions import Direction, direction_of
from flows.core.training.log_values import STEP_NAMES
from flows.core.training.record import TrainingRecord
from flows.core.training.recorder import record_folder
from flows.core.training.series import Extreme, Series, greatest, least, thin
from flows.core.training.values import POINTS, JobMetrics, MetricsRequest, MetricSummary, Point

_MAIN: Final = ("loss", "train/loss", "eval_loss", "reward", "learning_rate", "grad_norm")
"""Metrics that are described when none is asked for, and exist: best first."""
_MAIN_KEYS: Final = 6
_POINT_BYTES: Final = 18
_SERIES_BYTES: Final = 8_000
"""Bytes of all series of an answer, unless more points are asked for."""
_LEAST_POINTS: Final = 10
_DIGITS: Final = 6
_OTHERS: Final = 100
"""Names of other metrics that are listed."""


def describe_metrics(request: MetricsRequest) -> JobMetrics:
    """Read metrics of a job. Blocking: it reads files."""
    record = TrainingRecord([record_folder(Path(path)) for path in request.log_paths])
    usage = record.usage_names()
    recorded = {*record.names(), *usage}
    known = dict.fromkeys([*record.names(), *request.results])
    names = [name for name in known if name not in STEP_NAMES]
    chosen = [key for key in request.keys if key in (*names, *usage)] or main_metrics(names)
    points = _share(request.points, len(chosen))
    summaries: list[MetricSummary] = []
    for key in chosen:
        series = record.read(key) if key in recorded else _constant(request.results[key])
        if request.since_step is not None:
            series = series.since(request.since_step)
        if len(series.steps):
            summaries.append(_summarise(key, series, points))
    others = [hide_tokens(name) for name in (*names, *usage) if name not in chosen]
    return JobMetrics(
        job_id=request.job_id, name=request.name, keys=summaries, other_keys=others[:_OTHERS]
    )


def _constant(value: float) -> Series:
    """A result without a step, as of step 0."""
    return Series.of([(0, 0.0, value)])


def main_metrics(names: Sequence[str]) -> list[str]:
    """Choose the metrics that tell most about a training."""
    known = [name for name in _MAIN if name in names]
    judged = [name for name in names if direction_of(name) and name not in known]
    return [*known, *judged][:_MAIN_KEYS] or list(names[:_MAIN_KEYS])


def _share(points: int, keys: int) -> int:
    """Points of each series; an answer with the usual number keeps within its bytes."""
    if points > POINTS:
        return points
    return max(_LEAST_POINTS, min(points, _SERIES_BYTES // _POINT_BYTES // max(keys, 1)))


def _summarise(key: str, series: Series, points: int) -> MetricSummary:
    low, high = least(series), greatest(series)
    best = {Direction.LOWER: low, Direction.HIGHER: high}.get(direction_of(key) or Direction.LOWER)
    shown = thin(series, points)
    return MetricSummary(
        key=hide_tokens(key),
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
