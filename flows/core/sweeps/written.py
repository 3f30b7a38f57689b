"""Read a sweep as a person writes it, and check its structure."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, cast

from pydantic import Field, ValidationError

from flows.core.errors import InvalidConfig
from flows.core.models import Value
from flows.core.sweeps.search import grid_size
from flows.core.sweeps.spec import (
    MAX_TRIALS,
    Direction,
    EarlyStopping,
    Range,
    Search,
    Space,
    Values,
)


class WrittenSweep(Value):
    """A sweep as a person writes it; all other keys are arguments of its job.

    The limits of spending hold for all trials together.
    """

    name: str = Field(default="sweep", min_length=1, max_length=80, pattern=r"^[\w .-]+$")
    space: Space = Field(min_length=1, max_length=50)
    points: list[Values] = Field(default_factory=list[Values])
    search: Search | None = None
    metric: str = Field(min_length=1, max_length=200)
    direction: Direction = Direction.MINIMIZE
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    seed: int = 0
    early_stopping: EarlyStopping | None = None
    max_cost: Annotated[float, Field(gt=0)] | None = None
    max_gpu_hours: Annotated[float, Field(gt=0)] | None = None
    max_jobs: Annotated[int, Field(ge=1)] | None = None
    job: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def method(self) -> Search:
        """How values are chosen.

        A random search with at least as many trials as combinations tries each combination once.
        """
        if self.points or self.search is Search.GRID:
            return Search.GRID
        size = self._grid_size
        if self.search is not Search.OPTUNA and size is not None and size <= (self.trials or size):
            return Search.GRID
        return self.search or Search.RANDOM

    @property
    def count(self) -> int:
        """How many trials it has.

        Raises:
            InvalidConfig: There are too many, or their number is not given.
        """
        is_grid = self.method is Search.GRID
        if self.trials is not None and not is_grid:
            return self.trials
        if not is_grid and self._grid_size is None:
            raise InvalidConfig(
                "the number of trials is missing",
                "Give `trials`, or a list or {low, high, step} for every key",
            )
        size = len(self.points) or grid_size(self.space)
        if size > MAX_TRIALS:
            raise InvalidConfig(
                f"the grid has {size} combinations, more than {MAX_TRIALS}",
                "Try fewer values, or give `trials` and search by random or optuna",
            )
        return min(size, self.trials or size)

    @property
    def _grid_size(self) -> int | None:
        """The number of combinations, if every key has a list or a range with a step; else None."""
        if any(isinstance(one, Range) and not one.step for one in self.space.values()):
            return None
        try:
            return grid_size(self.space)
        except InvalidConfig:  # more steps than a sweep has trials
            return None


def read_sweep(data: Mapping[str, Any], *, name: str) -> WrittenSweep:
    """Read a sweep from `data`, which comes from YAML or was given inline.

    Raises:
        InvalidConfig: It is not a sweep; the message names the wrong key.
    """
    sweep = _read_fields(data, name)
    if sweep.points and sweep.search not in (None, Search.GRID):
        raise InvalidConfig(
            f"Sweep {sweep.name}: search {sweep.search} chooses values, and space is a list of "
            "combinations",
            "Remove search to try each combination, or give the values of each key",
        )
    try:
        _ = sweep.count
    except InvalidConfig as error:
        raise InvalidConfig(f"Sweep {sweep.name}: {error.what}", error.next_step) from error
    return sweep


def _read_fields(data: Mapping[str, Any], name: str) -> WrittenSweep:
    own = WrittenSweep.model_fields.keys() - {"job", "points"}
    fields = {key: value for key, value in data.items() if key in own}
    if isinstance(fields.get("space"), list):
        fields |= _of_points(fields["space"], name)
    job = {str(key): value for key, value in data.items() if key not in own}
    try:
        return WrittenSweep.model_validate({"name": name, **fields, "job": job})
    except ValidationError as error:
        raise _invalid(error, name) from error


def _of_points(points: list[object], name: str) -> dict[str, object]:
    """Read a space that is a list of combinations, each a mapping with a value for every key."""
    rows: list[Mapping[object, object]] = []
    for number, point in enumerate(points, start=1):
        what = f"Sweep {name}: space: combination {number}"
        if not isinstance(point, Mapping):
            raise InvalidConfig(f"{what} is not a mapping", "Give it a value for each key")
        rows.append(cast("Mapping[object, object]", point))
        if set(rows[-1]) != set(rows[0]):
            raise InvalidConfig(
                f"{what} does not set the same keys as the first one",
                "Give every combination a value for each key",
            )
    keys = list(rows[0]) if rows else []
    return {"points": rows, "space": {key: [row[key] for row in rows] for key in keys}}


def _invalid(error: ValidationError, name: str) -> InvalidConfig:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2])
    known = [key for key in WrittenSweep.model_fields if key not in ("job", "points")]
    close = get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"Did you mean {close[0]}?" if first["type"] == "extra_forbidden" and close else ""
    return InvalidConfig(
        f"Sweep {name}: {where}: {first['msg']}",
        hint or "Give each key of space a list of values, or {low, high} with step or log",
    )
