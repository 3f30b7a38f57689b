"""Values of one metric over the steps of a training: join, thin, find extremes.

Loads numpy, so the MCP server imports this module only to answer a question about metrics.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW: Final = np.dtype([("step", "<i8"), ("at", "<f8"), ("value", "<f8")])
"""A row of a file of the record; see `flows.core.training.recorder`."""

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.signedinteger[Any]]


class Series(NamedTuple):
    """The values of one metric, in the order of their steps. Three arrays of shape [N].

    Attributes:
        steps: Training steps, rising.
        times: Unix times in seconds.
        values: The values; may be not finite.
    """

    steps: Integers
    times: Floats
    values: Floats

    @classmethod
    def of(cls, points: Iterable[tuple[int, float, float]]) -> "Series":
        """Make a series of (step, time, value) rows."""
        rows = np.array(list(points), dtype=ROW)
        return cls(rows["step"], rows["at"], rows["value"])

    def since(self, step: int) -> "Series":
        """The part from a step on."""
        return self.part(slice(int(np.searchsorted(self.steps, step)), None))

    def until(self, step: int) -> "Series":
        """The part up to a step, which is included."""
        return self.part(slice(0, int(np.searchsorted(self.steps, step, side="right"))))

    def part(self, index: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Series":
        """The rows of an index."""
        return Series(self.steps[index], self.times[index], self.values[index])

    def finite(self) -> "Series":
        """The part whose values are finite."""
        return self.part(np.isfinite(self.values))


class Extreme(NamedTuple):
    """A value and its step."""

    step: int
    value: float


EMPTY: Final = Series.of([])


def join(parts: Iterable[Series]) -> Series:
    """Join series that follow each other."""
    found = [part for part in parts if len(part.steps)]
    if not found:
        return EMPTY
    return Series(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def last_pass(series: Series) -> Series:
    """Keep the rows that count where steps ran more than once: those before no earlier step.

    Of equal steps the last row counts.
    """
    steps = series.steps
    if len(steps) < 2 or bool(np.all(steps[:-1] < steps[1:])):
        return series
    least_after = np.minimum.accumulate(steps[::-1])[::-1]
    return series.part(np.append(steps[:-1] < least_after[1:], True))


def thin(series: Series, points: int) -> Series:
    """Reduce a series to at most `points` rows that keep its shape and every spike.

    The first and the last row stay. Of the others, each of equal parts keeps its least and its
    greatest value; a value that is not finite takes the place of the greatest.

    Args:
        series: The series.
        points: At least 4.
    """
    size = len(series.steps)
    if size <= points:
        return series
    edges = np.linspace(1, size - 1, max(1, (points - 2) // 2) + 1).astype(np.int64)
    values = np.where(np.isfinite(series.values), series.values, np.inf)
    chosen = {0, size - 1}
    for start, end in pairwise(np.unique(edges)):
        chosen.add(int(start + np.argmin(values[start:end])))
        chosen.add(int(start + np.argmax(values[start:end])))
    return series.part(np.array(sorted(chosen), dtype=np.int64))


def least(series: Series) -> Extreme | None:
    """The least finite value and its first step; None if no value is finite."""
    return _extreme(series.finite(), highest=False)


def greatest(series: Series) -> Extreme | None:
    """The greatest finite value and its first step; None if no value is finite."""
    return _extreme(series.finite(), highest=True)


def _extreme(series: Series, *, highest: bool) -> Extreme | None:
    if not len(series.values):
        return None
    at = int(np.argmax(series.values) if highest else np.argmin(series.values))
    return Extreme(int(series.steps[at]), float(series.values[at]))
