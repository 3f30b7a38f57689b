"""Verdicts over replicates: no difference is seldom called one, and a clear one is."""

from collections.abc import Callable

import numpy as np
import pytest

from flows.core.noise import Verdict, compare, estimate
from flows.core.sweeps.spec import Direction
from flows.families.replicated import stand

TRIALS = 4000
Draw = Callable[[np.random.Generator, int], list[float]]


def normal(random: np.random.Generator, count: int) -> list[float]:
    return list(random.normal(2.0, 0.1, count))


def skewed(random: np.random.Generator, count: int) -> list[float]:
    return list(random.gamma(4.0, 0.2, count))


def coarse(random: np.random.Generator, count: int) -> list[float]:
    """Accuracies over 20 questions."""
    return list(random.binomial(20, 0.7, count) / 20)


@pytest.mark.parametrize("draw", [normal, skewed, coarse])
@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (5, 5), (2, 5), (1, 3), (1, 5)])
def test_equal_configs_are_called_different_in_five_percent_at_most(
    draw: Draw, counts: tuple[int, int]
) -> None:
    random = np.random.default_rng(20261130)
    different = sum(
        compare(*(draw(random, count) for count in counts)).verdict is Verdict.DIFFERENT
        for _ in range(TRIALS)
    )
    # Three standard errors of the simulation itself.
    assert different / TRIALS <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_many_equal_configs_are_called_different_in_five_percent_of_all_leaderboards() -> None:
    random = np.random.default_rng(20261130)
    boards = 600
    wrong = 0
    for _ in range(boards):
        groups = [normal(random, 3) for _ in range(6)]
        pairs = [(a, b) for number, a in enumerate(groups) for b in groups[number + 1 :]]
        found = (compare(a, b, comparisons=len(pairs)).verdict for a, b in pairs)
        wrong += Verdict.DIFFERENT in found
    assert wrong / boards <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / boards)


def test_a_clear_difference_is_found() -> None:
    found = compare([2.0, 2.02, 1.99], [1.5, 1.52, 1.49])
    assert found.verdict is Verdict.DIFFERENT
    assert found.value == pytest.approx(-0.5)
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.5 < found.high < 0


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_results_without_any_spread_tell_nothing(a: list[float], b: list[float]) -> None:
    assert compare(a, b).verdict is Verdict.UNKNOWN


def test_one_result_has_no_interval() -> None:
    assert estimate([2.0]).low is None
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == (
        2.0,
        pytest.approx(-0.484, abs=1e-3),
        pytest.approx(4.484, abs=1e-3),
    )


def trials(rates: dict[float, list[float]]) -> list[tuple[dict[str, object], float]]:
    return [
        ({"training.learning_rate": rate, "training.seed": seed}, loss)
        for rate, losses in rates.items()
        for seed, loss in enumerate(losses)
    ]


def test_configs_of_a_sweep_are_compared_over_their_seeds() -> None:
    found = stand(
        trials({1e-3: [2.0, 2.02, 1.98], 2e-3: [2.01, 1.99, 2.03], 3e-3: [3.0, 3.02, 2.98]}),
        Direction.MINIMIZE,
    )
    assert [one.verdict for one in found.values()] == [
        None,
        Verdict.NOT_DISTINGUISHABLE,
        Verdict.DIFFERENT,
    ]
    assert next(iter(found.values())).words.endswith("the best config")


def test_a_sweep_without_seeds_has_no_standings() -> None:
    assert stand(trials({1e-3: [2.0], 2e-3: [1.0]}), Direction.MINIMIZE) == {}


def test_the_best_of_equal_configs_is_seldom_called_different() -> None:
    random = np.random.default_rng(20261201)
    boards, wrong = 600, 0
    for _ in range(boards):
        rates = {float(number): normal(random, 3) for number in range(8)}
        found = stand(trials(rates), Direction.MINIMIZE)
        wrong += any(one.verdict is Verdict.DIFFERENT for one in found.values())
    assert wrong / boards <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / boards)
