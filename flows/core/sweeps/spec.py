"""A sweep that was checked: the parameter of the `oumi-sweep` flow."""

import math
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from flows.core.errors import InvalidConfig
from flows.core.models import JobRequest, Value

MAX_TRIALS = 500
Scalar = str | int | float | bool | None


class Search(StrEnum):
    """How the values of the next trial are chosen."""

    GRID = "grid"
    RANDOM = "random"
    OPTUNA = "optuna"


class Direction(StrEnum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one < other if self is Direction.MINIMIZE else one > other

    def order(self, value: float) -> float:
        """A number that is smaller for a better `value`; NaN is the worst."""
        if math.isnan(value):
            return math.inf
        return value if self is Direction.MINIMIZE else -value

    @property
    def worst(self) -> float:
        """The worst possible value."""
        return math.inf if self is Direction.MINIMIZE else -math.inf


class Range(Value):
    """Numbers between two limits, both included; whole numbers if all fields are whole.

    Attributes:
        step: The distance between values, starting from `low`.
        log: Whether values are drawn on a logarithmic scale.
    """

    low: int | float
    high: int | float
    step: Annotated[int | float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0 and no step")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return all(isinstance(one, int) for one in (self.low, self.high, self.step or 1))

    def values(self) -> list[int | float]:
        """List its values.

        Raises:
            InvalidConfig: It has infinitely or too many values.
        """
        step = self.step or (1 if self.is_whole and not self.log else None)
        if step is None:
            raise InvalidConfig(
                f"between {self.low} and {self.high} there are infinitely many values",
                "Give a list or a step, or search by random or optuna",
            )
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        if count > MAX_TRIALS:
            raise InvalidConfig(
                f"between {self.low} and {self.high} there are {count} values", "Use a larger step"
            )
        found = [self.low + index * step for index in range(count)]
        return found if self.is_whole else [round(one, 12) for one in found]


Choices = Annotated[list[Scalar], Field(min_length=1, max_length=MAX_TRIALS)]
Space = dict[str, Choices | Range]
Values = dict[str, Scalar]


class EarlyStopping(Value):
    """When a trial is stopped: its best value is worse than the others' median at that step.

    Attributes:
        after_trials: How many other trials must have reached the step.
        after_steps: The first step at which a trial can be stopped.
    """

    after_trials: Annotated[int, Field(ge=1)] = 3
    after_steps: Annotated[int, Field(ge=0)] = 1


class Sweep(Value):
    """A job that is run repeatedly with different values.

    Attributes:
        request: The job that all trials share.
        output_key: The override that gives each trial its own folder; empty: none.
        output_dir: The folder of these folders.
        output_name: The file that each trial writes in its folder; empty: any files.
        space: The values to try, by dotted key; ``envs.NAME`` is an environment variable.
        points: The combinations to try, if they are listed; empty: any of the space.
        metric: The metric to optimize, by its last value.
        trials: How many trials to run.
        concurrency: How many trials run at once.
    """

    name: str
    path: str = ""
    request: JobRequest
    output_key: str = ""
    output_dir: str = ""
    output_name: str = ""
    space: Space
    points: list[Values] = Field(default_factory=list[Values])
    search: Search
    metric: str
    direction: Direction
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    concurrency: Annotated[int, Field(ge=1, le=100)]
    seed: int = 0
    early_stopping: EarlyStopping | None = None
