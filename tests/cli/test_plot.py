"""Curves in a terminal of 80 columns, without colours."""

import math

from flows.core.training.values import JobMetrics, MetricSummary, Point
from mcp_server.cli.plot import plot


def job(name: str, *values: float, key: str = "loss", first: int = 1) -> JobMetrics:
    points = [Point(step=first + at, value=value) for at, value in enumerate(values)]
    finite = [point for point in points if math.isfinite(point.value)]
    summary = MetricSummary(
        key=key,
        count=len(points),
        not_finite=len(points) - len(finite),
        first=points[0],
        last=points[-1],
        min=min(finite, key=lambda point: point.value, default=None),
        max=max(finite, key=lambda point: point.value, default=None),
        best=None,
        series=[(point.step, point.value) for point in points],
    )
    return JobMetrics(job_id=name, name=name, keys=[summary])


def test_the_curves_of_several_jobs_can_be_told_apart() -> None:
    drawn = plot("loss", [job("first", 3, 2, 1), job("second", 4, 4, 4)])
    assert "** first" in drawn
    assert "oo second" in drawn
    assert max(map(len, drawn.splitlines())) <= 80


def test_values_that_are_not_finite_are_counted_below() -> None:
    drawn = plot("loss", [job("one", 3, math.nan, 1)])
    assert drawn.endswith("one: 1 of 3 values are not finite\n")
    nothing = plot("loss", [job("one", math.nan, math.inf)])
    assert nothing == "loss\none: 2 of 2 values are not finite\n"


def test_the_axis_has_whole_steps() -> None:
    assert plot("loss", [job("one", *range(400))]).splitlines()[-1].split() == [
        *("1", "101", "201", "300", "400")
    ]
    assert plot("loss", [job("one", 2.5, first=0)]).splitlines()[-1].split() == ["0"]


def test_a_spike_does_not_flatten_the_rest() -> None:
    drawn = plot("loss", [job("one", *(2 - at / 200 for at in range(200)), 1e4)])
    marks = sorted(float(line.partition("┤")[0]) for line in drawn.splitlines() if "┤" in line)
    assert marks[1] < 100


def test_a_long_name_is_shortened() -> None:
    drawn = plot("x" * 200, [job("one", 1, 2, key="x" * 200)])
    assert max(map(len, drawn.splitlines())) <= 80
