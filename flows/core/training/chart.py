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
from flows.core.training.values import JobMetrics, MetricSummary, has_wide_range

_DPI: Final = 100
_WIDTH: Final = 4.6
_HEIGHT: Final = 2.9
_COLUMNS: Final = 2
_NAME_CHARS: Final = 28
_NOT_FINITE: Final = "not finite"
_FEW: Final = 20
"""Values that are drawn as points too, so that a single one can be seen."""
_TITLE_CHARS: Final = 52


def draw_metrics(jobs: Sequence[JobMetrics]) -> bytes:
    """Draw a PNG with one plot per metric and one line per job; empty if there is nothing to draw.

    Values that are not finite are red crosses at the upper edge of the plot; they interrupt a line.
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
    steps = [step for step, _ in summary.series]
    values = [value if math.isfinite(value) else math.nan for _, value in summary.series]
    # A point between two that are not finite is no line.
    marker = "." if len(finite) <= max(_FEW, len(odd)) else None
    axes.plot(steps, values, label=label, color=color, linewidth=1.2, marker=marker, alpha=0.85)
    if odd:
        edge = axes.get_xaxis_transform()
        axes.plot(odd, [0.97] * len(odd), "x", color="red", transform=edge, label=_NOT_FINITE)


def _finish(axes: Axes, key: str, shown: list[MetricSummary], *, has_legend: bool) -> None:
    axes.set_title(_shorten(key, _TITLE_CHARS), fontsize=10)
    if not any(one.min for one in shown):
        axes.set_yticks([])
    axes.set_xlabel("seconds" if key.startswith(USAGE_PREFIX) else "step", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if has_wide_range(shown):
        axes.set_yscale("log")
    if has_legend:
        # Each job may have crosses: one entry is enough.
        lines, labels = axes.get_legend_handles_labels()
        entries = dict(zip(labels, lines, strict=True))
        crosses = entries.pop(_NOT_FINITE, None)
        entries |= {_NOT_FINITE: crosses} if crosses else {}
        axes.legend(list(entries.values()), list(entries), fontsize=7)


def _label(job: JobMetrics) -> str:
    return _shorten(job.name or job.job_id[:8], _NAME_CHARS)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
