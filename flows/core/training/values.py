"""Values about the metrics of jobs, which travel between the MCP server and a worker."""

from collections.abc import Iterable
from typing import Final

from pydantic import Field

from flows.core.models import Answer, Value
from flows.core.numbers import Number

POINTS: Final = 100
"""Points of a series unless more are asked for."""
_WIDE: Final = 50.0
"""Ratio of the greatest to the least value from which on a plot's scale is logarithmic."""


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


def has_wide_range(summaries: Iterable[MetricSummary]) -> bool:
    """Whether only a logarithmic scale shows the differences between values of a metric."""
    ends = [(one.min.value, one.max.value) for one in summaries if one.min and one.max]
    least = min((low for low, _ in ends), default=0.0)
    greatest = max((high for _, high in ends), default=0.0)
    return least > 0 and greatest / least > _WIDE


class MetricsRequest(Value):
    """What to read of the metrics of a job.

    Attributes:
        job_id: The job.
        name: Its name.
        log_paths: The logs of its attempts, the first attempt first; their records are beside them.
        results: Last values that are known without a record, such as those of an evaluation.
        keys: Names of metrics; empty: those that matter most. Unknown ones are left out.
        points: Most points of a series.
        since_step: First step; None: from the beginning.
    """

    job_id: str
    name: str = ""
    log_paths: list[str]
    results: dict[str, Number] = Field(default_factory=dict[str, Number])
    keys: list[str] = Field(default_factory=list[str])
    points: int = POINTS
    since_step: int | None = None


class JobMetrics(Value):
    """The metrics of a job."""

    job_id: str
    name: str = ""
    keys: list[MetricSummary]
    other_keys: list[str] = Field(
        default_factory=list[str], description="Metrics that were not asked for."
    )


class JobMetricsAnswer(Answer):
    """A worker's answer about the metrics of a job."""

    job: JobMetrics
