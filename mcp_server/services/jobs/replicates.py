"""Finds replicates of jobs, and judges whether results differ by more than their noise."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from flows.core.models import Value
from flows.core.noise import Estimate, Verdict, compare, estimate
from flows.core.numbers import Number
from flows.core.training.directions import direction_of

_METRICS: Final = 12
_NAMED: Final = 5


class MetricVerdict(Value):
    """A metric of two groups of replicates."""

    metric: str
    a: Estimate
    b: Estimate
    difference: Number = Field(description="Of b from a.")
    low: Number | None = Field(description="95 % interval of the difference; null: not known.")
    high: Number | None
    verdict: Verdict


class Noise(Value):
    """Two groups of replicates.

    Attributes:
        are_replicates: Whether both are one group.
        a: The jobs of one config.
        b: Those of the other.
        metrics: The verdict on each metric.
    """

    are_replicates: bool = False
    a: list[str] = Field(default_factory=list[str])
    b: list[str] = Field(default_factory=list[str])
    metrics: list[MetricVerdict] = Field(default_factory=list[MetricVerdict])


def describe_noise(noise: Noise) -> list[str]:
    """Summarise the verdicts, in sentences."""
    if noise.are_replicates:
        return ["They are replicates: one config, but for seeds and folders."]
    if not noise.metrics:
        return []
    counts = f"{len(noise.a)} and {len(noise.b)} replicates"
    by_verdict = {
        verdict: [one.metric for one in noise.metrics if one.verdict is verdict]
        for verdict in Verdict
    }
    if by_verdict[Verdict.UNKNOWN] == [one.metric for one in noise.metrics]:
        return [
            f"Whether results differ by more than noise is unknown with {counts}: run both again "
            "with other seeds."
        ]
    return [
        f"{verdict.capitalize()} ({counts}): {', '.join(names[:_NAMED])}."
        for verdict, names in by_verdict.items()
        if names
    ]


def judge(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]
) -> list[MetricVerdict]:
    """Compare the metrics of two groups of replicates, one mapping a job."""
    names = _metrics(a) & _metrics(b)
    chosen = sorted(names, key=lambda name: (len(name), name))[:_METRICS]
    return [_judge(name, _values(name, a), _values(name, b), len(chosen)) for name in chosen]


def _judge(name: str, a: Sequence[float], b: Sequence[float], comparisons: int) -> MetricVerdict:
    found = compare(a, b, comparisons=comparisons)
    return MetricVerdict(
        metric=name,
        a=estimate(a),
        b=estimate(b),
        difference=found.value,
        low=found.low,
        high=found.high,
        verdict=found.verdict,
    )


def _metrics(jobs: Sequence[Mapping[str, float]]) -> set[str]:
    """The metrics that tell how good a job is, and that it has."""
    return {name for job in jobs for name in job if direction_of(name) and math.isfinite(job[name])}


def _values(name: str, jobs: Sequence[Mapping[str, float]]) -> list[float]:
    return [job[name] for job in jobs if math.isfinite(job.get(name, math.nan))]
