"""Draws metrics in a terminal."""

import importlib
import math
from collections.abc import Sequence
from typing import Any, Final

from flows.core.training.values import JobMetrics, MetricSummary, has_wide_range

_COLUMNS: Final = 78
_ROWS: Final = 14
_NAME_CHARS: Final = 24
_TITLE_CHARS: Final = 60
_TICKS: Final = 5
_MARKERS: Final = ("*", "o", "x", "+", "#")
"""What tells the curves of several jobs apart without colours; there are five jobs at most."""


def plot(key: str, jobs: Sequence[JobMetrics]) -> str:
    """Draw one metric of jobs; a line below counts the values that are not finite."""
    curves = [(job, one) for job in jobs for one in job.keys if one.key == key]
    finite = {job.job_id: _finite(one) for job, one in curves}
    title = key if len(key) <= _TITLE_CHARS else f"{key[: _TITLE_CHARS - 3]}..."
    notes = [
        f"{_name(job)}: {one.not_finite} of {one.count} values are not finite"
        for job, one in curves
        if one.not_finite
    ]
    if not any(finite.values()):
        return "\n".join([title, *notes]) + "\n"
    # Loaded here, as only a plot needs it. It has no types (5.3).
    plotext: Any = importlib.import_module("plotext")
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(_COLUMNS, _ROWS)
    plotext.title(title)
    for place, (job, _) in enumerate(curves):
        if points := finite[job.job_id]:
            steps, values = zip(*points, strict=True)
            several = len(jobs) > 1
            plotext.plot(
                steps,
                values,
                label=_name(job) if several else None,
                marker=_MARKERS[place % len(_MARKERS)] if several else "braille",
            )
    if has_wide_range(one for _, one in curves):
        plotext.yscale("log")
    plotext.xticks(_ticks([step for points in finite.values() for step, _ in points]))
    drawn = str(plotext.uncolorize(plotext.build()))
    return "\n".join([drawn.rstrip("\n"), *notes]) + "\n"


def _finite(one: MetricSummary) -> list[tuple[int, float]]:
    return [(step, value) for step, value in one.series if math.isfinite(value)]


def _name(job: JobMetrics) -> str:
    return (job.name or job.job_id)[:_NAME_CHARS]


def _ticks(steps: Sequence[int]) -> list[int]:
    """Whole steps for the axis, from the first to the last."""
    first, last = min(steps), max(steps)
    parts = min(_TICKS - 1, last - first) or 1
    return sorted({first + round((last - first) * part / parts) for part in range(parts + 1)})
