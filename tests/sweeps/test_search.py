"""Which values a sweep tries, and which trials it gives up."""

import math
from typing import Any

import pytest

from flows.core.errors import InvalidConfig
from flows.core.models import JobRequest
from flows.core.result_metrics import Point
from flows.core.sweeps.search import Tried, values_of
from flows.core.sweeps.spec import Direction, EarlyStopping, Search, Sweep
from flows.core.sweeps.written import read_sweep
from flows.families.early_stopping import reason_to_stop

SPACE: dict[str, Any] = {
    "rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "steps": {"low": 0, "high": 20, "step": 5},
    "layers": {"low": 1, "high": 8},
    "warm": {"low": 0.0, "high": 1.0, "step": 0.25},
    "kind": ["cosine", "linear", True, 1, None],
}


def sweep(search: Search, space: Any = SPACE, **fields: Any) -> Sweep:
    written = read_sweep({"space": space, "metric": "loss", "trials": 30, **fields}, name="s")
    return Sweep(
        name="s",
        request=JobRequest(config_path="/c.yaml", client_cwd="/"),
        space=written.space,
        points=written.points,
        search=search,
        metric="loss",
        direction=Direction.MINIMIZE,
        trials=30,
        concurrency=2,
        seed=written.seed,
    )


def test_a_grid_has_every_combination_and_its_last_key_changes_fastest() -> None:
    space = {"a": [1, 2], "b": {"low": 0, "high": 1}}
    tried = [values_of(sweep(Search.GRID, space), number, []) for number in range(4)]
    assert tried == [{"a": a, "b": b} for a in (1, 2) for b in (0, 1)]


@pytest.mark.parametrize("search", [Search.RANDOM, Search.OPTUNA])
def test_values_are_of_the_space_and_of_its_types(search: Search) -> None:
    tried: list[Tried] = []
    for number in range(12):
        values: dict[str, Any] = dict(values_of(sweep(search), number, tried))
        assert 1e-4 <= values["rate"] <= 1e-1
        assert values["steps"] in (0, 5, 10, 15, 20)
        assert type(values["steps"]) is int
        assert values["layers"] in range(1, 9)
        assert values["warm"] in (0.0, 0.25, 0.5, 0.75, 1.0)
        assert values["kind"] in ["cosine", "linear", True, 1, None]
        tried.append(Tried(values, float(number) if number % 3 else None))
    assert len({str(one.values) for one in tried}) == 12


@pytest.mark.parametrize("search", [Search.RANDOM, Search.OPTUNA])
def test_the_same_trials_give_the_same_next_one_and_another_seed_another(search: Search) -> None:
    tried = [Tried(values_of(sweep(search), n, []), float(n)) for n in range(6)]
    again = [values_of(sweep(search), 6, tried) for _ in range(2)]
    assert again[0] == again[1]
    assert values_of(sweep(search, seed=1), 6, tried) != again[0]


def test_optuna_learns_from_the_trials_it_is_told_of() -> None:
    space = {"x": {"low": 0.0, "high": 1.0}}
    one = sweep(Search.OPTUNA, space)
    tried: list[Tried] = []
    for number in range(30):
        values: dict[str, Any] = dict(values_of(one, number, tried))
        tried.append(Tried(values, (values["x"] - 0.8) ** 2))
    off = [abs(float(str(trial.values["x"])) - 0.8) for trial in tried]
    late, early = off[20:], off[:5]
    assert sum(late) / len(late) < sum(early) / len(early)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"space": {}}, "space: Dictionary should have at least 1 item"),
        ({"space": {"a": []}}, "space.a"),
        ({"space": {"a": {"low": 1}}}, "space.a"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "space.a"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "space.a"),
        ({"space": {"a": {"low": 0.1, "high": math.inf}}}, "space.a"),
        (
            {"space": {"a": {"low": 0.1, "high": 1.5}}, "search": "grid"},
            "there are infinitely many values",
        ),
        ({"space": {"a": {"low": 0, "high": 9999}}, "search": "grid"}, "there are 10000 values"),
        (
            {"space": {"a": list(range(30)), "b": list(range(30))}, "search": "grid"},
            "has 900 combinations",
        ),
        ({"search": "bayes"}, "search: Input should be 'grid', 'random' or 'optuna'"),
        (
            {"trials": None, "space": {"a": {"low": 1, "high": 3}}},
            "the number of trials is missing",
        ),
        ({"space": []}, "space: Dictionary should have at least 1 item"),
        ({"space": [{"a": 1}, 2]}, "combination 2 is not a mapping"),
        ({"space": [{"a": 1}, {"b": 2}]}, "combination 2 does not set the same keys"),
        ({"space": [{"a": [1]}]}, "space.a: Input should be a valid string"),
        ({"space": [{"a": 1}] * 501}, "space.a"),
        ({"space": [{"a": 1}], "search": "optuna"}, "search optuna chooses values"),
        (
            {"space": {"a": list(range(30)), "b": list(range(30))}, "trials": None},
            "has 900 combinations",
        ),
        ({"trials": 501}, "trials: Input should be less than or equal to 500"),
        ({"metric": ""}, "metric: String should have at least 1 character"),
        ({"early_stopping": {"after": 1}}, "early_stopping.after: Extra inputs"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfig) as raised:
        read_sweep({"space": {"a": [1]}, "metric": "m", "trials": 2, **fields}, name="s")
    assert says in raised.value.sentences


@pytest.mark.parametrize(
    ("fields", "search", "count"),
    [
        ({"space": {"a": [1, 2], "b": ["x", None, True]}}, Search.GRID, 6),
        ({"space": {"a": [1]}}, Search.GRID, 1),
        ({"space": {"a": [1, 2], "b": {"low": 0, "high": 4, "step": 2}}}, Search.GRID, 6),
        ({"space": {"a": [1, 2, 3]}, "search": "random"}, Search.GRID, 3),
        ({"space": {"a": [1, 2, 3]}, "trials": 10}, Search.GRID, 3),
        ({"space": {"a": [1, 2, 3]}, "trials": 2}, Search.RANDOM, 2),
        ({"space": {"a": [1, 2, 3]}, "trials": 2, "search": "grid"}, Search.GRID, 2),
        ({"space": {"a": [1, 2, 3]}, "trials": 10, "search": "grid"}, Search.GRID, 3),
        ({"space": {"a": [1, 2, 3]}, "search": "optuna"}, Search.OPTUNA, 3),
        ({"space": {"a": [1, 2, 3]}, "search": "optuna", "trials": 9}, Search.OPTUNA, 9),
        ({"space": {"a": list(range(30)), "b": list(range(30))}, "trials": 9}, Search.RANDOM, 9),
        ({"space": {"a": {"low": 0, "high": 1000, "step": 1}}, "trials": 9}, Search.RANDOM, 9),
        ({"space": {"a": {"low": 0, "high": 1}}, "trials": 9}, Search.RANDOM, 9),
        ({"space": [{"a": 1, "b": 2}, {"b": 3, "a": 2}]}, Search.GRID, 2),
        ({"space": [{"a": 1}, {"a": 1}, {"a": 2}], "trials": 2}, Search.GRID, 2),
    ],
)
def test_a_space_of_listed_values_knows_how_many_trials_it_has(
    fields: dict[str, Any], search: Search, count: int
) -> None:
    written = read_sweep({"metric": "m", **fields}, name="s")
    assert (written.method, written.count) == (search, count)


def test_combinations_are_tried_as_they_are_written() -> None:
    points = [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 1, "b": None}]
    one = sweep(Search.GRID, points, trials=None)
    assert [values_of(one, number, []) for number in range(3)] == points


def curve(*values: float) -> list[Point]:
    return [Point(10 * number, value) for number, value in enumerate(values, start=1)]


OTHERS = {"a": curve(3.0, 2.0, 1.0), "b": curve(4.0, 2.5), "c": curve(5.0, 3.0, 2.0)}


@pytest.mark.parametrize(
    ("mine", "direction", "is_hopeless"),
    [
        (curve(9.0, 8.0), Direction.MINIMIZE, True),
        (curve(9.0, 2.4), Direction.MINIMIZE, False),
        (curve(2.0, 8.0), Direction.MINIMIZE, False),  # its best counts, not its last
        (curve(9.0), Direction.MINIMIZE, False),  # too early
        (curve(9.0, 8.0, 7.0), Direction.MINIMIZE, False),  # only two came as far
        ([], Direction.MINIMIZE, False),
        (curve(1.0, 0.5), Direction.MAXIMIZE, True),
        (curve(9.0, 8.0), Direction.MAXIMIZE, False),
    ],
)
def test_a_trial_is_hopeless_when_it_is_behind_the_median_of_those_that_came_as_far(
    mine: list[Point], direction: Direction, is_hopeless: bool
) -> None:
    rule = EarlyStopping(after_trials=3, after_steps=20)
    assert (reason_to_stop(mine, OTHERS, rule, direction) is not None) is is_hopeless


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf])
def test_a_trial_whose_metric_is_not_finite_any_more_is_hopeless(
    direction: Direction, last: float
) -> None:
    rule = EarlyStopping(after_trials=3, after_steps=20)
    assert reason_to_stop(curve(0.1, last), {}, rule, direction) is not None
    assert reason_to_stop(curve(last), {}, rule, direction) is None  # too early


def test_a_trial_whose_loss_is_not_finite_any_more_is_hopeless_whatever_the_metric() -> None:
    rule = EarlyStopping(after_trials=3, after_steps=20)
    for metric in ([], curve(0.5), curve(0.5, 0.6)):
        why = reason_to_stop(metric, {}, rule, Direction.MAXIMIZE, losses=curve(1.0, math.nan))
        assert why == "diverged: at step 20 its loss was nan"
    early = reason_to_stop([], {}, rule, Direction.MAXIMIZE, losses=curve(math.nan))
    fine = reason_to_stop([], {}, rule, Direction.MAXIMIZE, losses=curve(1.0, 9.0))
    assert (early, fine) == (None, None)


@pytest.mark.parametrize("direction", Direction)
def test_others_that_diverged_are_behind_every_trial(direction: Direction) -> None:
    rule = EarlyStopping(after_trials=1, after_steps=1)
    diverged = {"a": curve(0.5, math.nan), "b": curve(math.inf, -math.inf)}
    assert reason_to_stop(curve(9.0, 9.0), diverged, rule, direction) is None


@pytest.mark.parametrize("direction", [Direction.MINIMIZE, Direction.MAXIMIZE])
def test_optuna_goes_on_after_trials_that_diverged(direction: Direction) -> None:
    searched = sweep(Search.OPTUNA).model_copy(update={"direction": direction})
    tried = [
        Tried(values_of(searched, n, []), direction.worst if n % 2 else float(n)) for n in range(6)
    ]
    assert values_of(searched, 6, tried).keys() == searched.space.keys()
