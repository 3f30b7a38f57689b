"""A sweep as a person writes it: read and checked for its structure."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field, ValidationError

from flows.errors import InvalidConfig
from flows.models import Value
from flows.sweeps.search import grid_size
from flows.sweeps.spec import MAX_TRIALS, Direction, EarlyStopping, Search, Space


class WrittenSweep(Value):
    """A sweep as it is written; what it has beyond these fields are the arguments of its job."""

    name: str = Field(default="sweep", min_length=1, max_length=80, pattern=r"^[\w .-]+$")
    space: Space = Field(min_length=1, max_length=50)
    search: Search = Search.RANDOM
    metric: str = Field(min_length=1, max_length=200)
    direction: Direction = Direction.MINIMIZE
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    seed: int = 0
    early_stopping: EarlyStopping | None = None
    job: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def count(self) -> int:
        """How many trials it has.

        Raises:
            InvalidConfig: There are too many, or it is not said how many.
        """
        if self.search is not Search.GRID:
            if self.trials is None:
                raise InvalidConfig("it does not say how many trials", "Give `trials`")
            return self.trials
        size = grid_size(self.space)
        if size > MAX_TRIALS:
            raise InvalidConfig(
                f"the grid has {size} combinations, more than {MAX_TRIALS}",
                "Try fewer values, or search by random or optuna",
            )
        return min(size, self.trials or size)


def read_sweep(data: Mapping[str, Any], *, name: str) -> WrittenSweep:
    """The sweep that `data`, read from YAML or given inline, says.

    Raises:
        InvalidConfig: It is no sweep; the message says which key is wrong.
    """
    own = WrittenSweep.model_fields.keys() - {"job"}
    try:
        sweep = WrittenSweep.model_validate(
            {
                "name": name,
                **{key: value for key, value in data.items() if key in own},
                "job": {str(key): value for key, value in data.items() if key not in own},
            }
        )
    except ValidationError as error:
        raise _invalid(error, name) from error
    try:
        _ = sweep.count
    except InvalidConfig as error:
        raise InvalidConfig(f"Sweep {sweep.name}: {error.what}", error.next_step) from error
    return sweep


def _invalid(error: ValidationError, name: str) -> InvalidConfig:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"][:2])
    known = [key for key in WrittenSweep.model_fields if key != "job"]
    close = get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"Did you mean {close[0]}?" if first["type"] == "extra_forbidden" and close else ""
    return InvalidConfig(
        f"Sweep {name}: {where}: {first['msg']}",
        hint or "A space is a list of values or {low, high} with step or log",
    )
