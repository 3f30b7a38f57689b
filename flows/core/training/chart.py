# pyright: reportUnknownMemberType=false
# matplotlib 3.11 leaves the keyword arguments of its methods without types.
"""Draws metrics of jobs over their steps as a PNG.

Loads matplotlib, so it is imported only to draw. It uses no display and no global state.
"""

import io
import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flows.core.training.usage_names import USAGE_PREFIX
from flows.core.training.values import JobMetrics, MetricSummary

_DPI: Final = 100
_WIDTH: Final = 4.6
_HEIGHT: Final = 2.9
_COLUMNS: Final = 2
_NAME_CHARS: Final = 28
_FEW: Final = 20
"""Values that are drawn as points too, so that a single one can be seen."""
_WIDE: Final = 200.0
"""Ratio of the greatest to the least value from which on a scale is logarithmic."""


def draw_metrics(jobs: Sequence[JobMetrics]) -> bytes:
    """Draw a PNG with one plot per metric and one line per job; empty if there is nothing to draw.

    Values that are not finite are red crosses at the upper edge of the plot.
    """
    keys = list(dict.fromkeys(summary.key for job in jobs for summary in job.keys))
    if not keys:
        return b""
    columns = min(_COLUMNS, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for number, key in enumerate(keys, start=1):
        axes = figure.add_subplot(rows, columns, number)
        _draw_plot(axes, key, jobs, has_legend=len(jobs) > 1 and number == 1)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()


def _draw_plot(axes: Axes, key: str, jobs: Sequence[JobMetrics], *, has_legend: bool) -> None:
    shown: list[MetricSummary] = []
    for place, job in enumerate(jobs):
        for summary in (one for one in job.keys if one.key == key):
            _draw_line(axes, summary, label=_label(job), color=f"C{place}")
            shown.append(summary)
    _finish(axes, key, shown, has_legend=has_legend)


def _draw_line(axes: Axes, summary: MetricSummary, *, label: str, color: str) -> None:
    finite = [(step, value) for step, value in summary.series if math.isfinite(value)]
    odd = [step for step, value in summary.series if not math.isfinite(value)]
    steps, values = [step for step, _ in finite], [value for _, value in finite]
    marker = "." if len(finite) <= _FEW else None
    axes.plot(steps, values, label=label, color=color, linewidth=1.2, marker=marker, alpha=0.85)
    if odd:
        edge = axes.get_xaxis_transform()
        axes.plot(odd, [0.97] * len(odd), "x", color="red", transform=edge, label="not finite")


def _finish(axes: Axes, key: str, shown: list[MetricSummary], *, has_legend: bool) -> None:
    least = min((one.min.value for one in shown if one.min), default=0.0)
    greatest = max((one.max.value for one in shown if one.max), default=0.0)
    axes.set_title(key, fontsize=10)
    axes.set_xlabel("seconds" if key.startswith(USAGE_PREFIX) else "step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if least > 0 and greatest / least > _WIDE:
        axes.set_yscale("log")
    if has_legend:
        axes.legend(fontsize=7)


def _label(job: JobMetrics) -> str:
    name = job.name or job.job_id[:8]
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 3]}..."
