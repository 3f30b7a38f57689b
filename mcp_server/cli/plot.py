"""Draws metrics in a terminal."""

import importlib
import math
from collections.abc import Sequence
from typing import Any, Final

from flows.core.training.values import JobMetrics

_COLUMNS: Final = 78
_ROWS: Final = 14
_NAME_CHARS: Final = 24


def plot(key: str, jobs: Sequence[JobMetrics]) -> str:
    """Draw one metric of jobs; values that are not finite are left out."""
    # Loaded here, as only a plot needs it. It has no types (5.3).
    plotext: Any = importlib.import_module("plotext")
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(_COLUMNS, _ROWS)
    plotext.title(key)
    for job in jobs:
        for one in job.keys:
            finite = [(step, value) for step, value in one.series if math.isfinite(value)]
            if one.key == key and finite:
                label = (job.name or job.job_id)[:_NAME_CHARS] if len(jobs) > 1 else None
                steps, values = zip(*finite, strict=True)
                plotext.plot(steps, values, label=label, marker="braille")
    return str(plotext.uncolorize(plotext.build()))
