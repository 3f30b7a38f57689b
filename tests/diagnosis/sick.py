"""Trainings in which something is wrong, by the kind of finding they must give."""

from collections.abc import Callable

import numpy as np

from flows.core.diagnosis.evidence import Evidence
from flows.core.diagnosis.findings import FindingKind
from tests.diagnosis.trainings import START, Training, draw, fall

_Draw = Callable[[np.random.Generator], Evidence]


def _supervised(rng: np.random.Generator, *, least: int = 40, most: int = 3000) -> Training:
    t = draw(rng, least=least, most=most)
    start = rng.uniform(0.9, 4) if rng.random() < 0.8 else rng.uniform(9, 11)
    t.log("loss", t.noisy(fall(t, start, start * rng.uniform(0.3, 0.75)), rng.uniform(0.01, 0.12)))
    t.norms()
    return t


def _lost_for_good(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=5)
    at = int(rng.integers(0, t.rows))
    t.values["loss"][at:] = np.nan
    t.values["grad_norm"][at:] = np.nan
    return t.evidence()


def _infinite(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng)
    at = int(rng.integers(1, t.rows))
    t.values["loss"][max(0, at - 2) : at] *= [3.0, 50.0][: at - max(0, at - 2)]
    t.values["loss"][at:] = np.inf
    return t.evidence()


def _hidden_by_filter(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng)
    at = int(rng.integers(0, t.rows - 2))
    t.values["loss"][at:] = 0.0
    t.values["grad_norm"][at:] = np.nan
    t.log("entropy", np.where(np.arange(t.rows) >= at, np.nan, 1.0))
    return t.evidence()


def _gradients_lost(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=60)
    t.values["grad_norm"][int(rng.uniform(0.2, 0.7) * t.rows) :] = np.nan
    return t.evidence()


def _lost_once(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=60)
    t.values["loss"][int(rng.integers(5, t.rows - 10))] = np.nan
    return t.evidence()


def _rises(rng: np.random.Generator) -> Evidence:
    """Rises slowly or at once, and stays."""
    t = _supervised(rng, least=60)
    loss = t.values["loss"]
    at = int(rng.uniform(0.2, 0.8) * t.rows)
    best, start = float(np.median(loss[max(0, at - 8) : at])), float(loss[0])
    top = max(start, best) * rng.uniform(1.15, 4) + 0.3 * best
    speed = 10 ** rng.uniform(0.8, 3)
    rest = np.maximum(0, t.x - t.x[at])
    level = best + (top - best) * (1 - np.exp(-speed * rest))
    if level[-1] - best < 0.7 * (top - best):
        level = best + (top - best) * np.minimum(1, rest / (0.5 * rest[-1]))
    t.values["loss"][at:] = t.noisy(level, rng.uniform(0.01, 0.1))[at:]
    t.values["grad_norm"][at:] *= rng.uniform(1, 20)
    return t.evidence()


def _spikes_and_settles(rng: np.random.Generator) -> Evidence:
    """Jumps, comes back in part, and settles at what guessing by frequency gives."""
    t = draw(rng, least=100)
    start, best = rng.uniform(1.5, 3), rng.uniform(0.7, 1.4)
    level = fall(t, start, best, 8.0)
    at = int(rng.uniform(0.3, 0.7) * t.rows)
    rest = t.x[at:] - t.x[at]
    level[at:] = rng.uniform(5.5, 7.5) + rng.uniform(0, 4) * np.exp(-rng.uniform(20, 200) * rest)
    t.log("loss", t.noisy(level, rng.uniform(0.01, 0.05)))
    t.norms()
    return t.evidence()


def _runs_away(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=60, most=1000)
    t.log("reward", rng.normal(0.5, 0.1, t.rows))
    t.log("loss", rng.normal(0, 0.1, t.rows))
    at = rng.uniform(0.5, 0.75)
    t.log("kl", t.noisy(0.05 + rng.uniform(40, 2000) * np.maximum(0, t.x - at), 0.2))
    return t.evidence()


def _rate_zero(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng)
    t.rate(0.0)
    return t.evidence()


def _plateau(rng: np.random.Generator, level: float | None = None) -> Training:
    t = draw(rng, least=40)
    level = rng.uniform(0.7, 3) if level is None else level
    t.log("loss", t.noisy(np.full(t.rows, level), rng.uniform(0.001, 0.02)))
    t.norms()
    return t


def _rate_too_low(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng)
    t.rate(10 ** rng.uniform(-9, -6.2))
    return t.evidence()


def _all_masked(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng)
    t.log("loss", np.zeros(t.rows))
    t.log("grad_norm", np.zeros(t.rows))
    return t.evidence()


def _frozen(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng)
    t.log("grad_norm", np.zeros(t.rows))
    return t.evidence()


def _untrained(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng, rng.uniform(6, 11))
    t.rate(10 ** rng.uniform(-5, -2), "constant", 0.01)
    return t.evidence()


def _guessing(rng: np.random.Generator) -> Evidence:
    t = _plateau(rng, float(np.log(2)))
    t.log("loss", np.log(2) + rng.normal(0, 0.001, t.rows))
    t.log("rewards/chosen", rng.normal(0, 1e-3, t.rows))
    return t.evidence()


def _equal_rewards(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=25, most=800)
    t.log("loss", np.zeros(t.rows))
    t.log("reward", np.full(t.rows, float(rng.choice([0.0, -1.0, 0.5]))))
    return t.evidence()


def _collapses(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=60)
    at = int(rng.uniform(0.15, 0.85) * t.rows)
    t.values["loss"][at:] = np.abs(rng.normal(0, 1, t.rows - at)) * 10 ** rng.uniform(-9, -4.5)
    t.values["grad_norm"][at:] *= 1e-4
    return t.evidence()


def _collapses_to_zero(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=60)
    at = int(rng.uniform(0.15, 0.85) * t.rows)
    t.values["loss"][at:] = 0.0
    return t.evidence()


def _overfits(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=80)
    start = rng.uniform(1.2, 3)
    t.log(
        "loss",
        t.noisy(
            fall(t, start, start * rng.uniform(0.05, 0.5), rng.uniform(2, 6)),
            rng.uniform(0.01, 0.08),
        ),
    )
    low, size = rng.uniform(0.15, 0.6), rng.uniform(0.1, 1.0)
    best = start * rng.uniform(0.6, 0.85)

    def curve(x: np.ndarray) -> np.ndarray:
        return np.where(
            x < low,
            best + (start - best) * (1 - x / low) ** 2,
            best * (1 + size * (x - low) / (1 - low)),
        )

    t.evaluate(curve, int(rng.integers(5, 40)), rng.uniform(0.001, 0.015))
    t.norms()
    return t.evidence()


def _spiky(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=100)
    t.norms(rng.uniform(0.2, 5), rng.uniform(0.05, 0.4))
    count = max(6, int(t.rows * rng.uniform(0.01, 0.05)))
    at = rng.choice(np.arange(t.rows // 10, t.rows), count, replace=False)
    t.values["grad_norm"][at] *= rng.uniform(8, 150, count)
    t.values["loss"][at] *= rng.uniform(1.0, 1.6, count)
    return t.evidence()


def _slows_at_once(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=80)
    t.gaps[int(t.rows * rng.uniform(0.3, 0.85)) :] *= rng.uniform(2.1, 12)
    return t.evidence()


def _slows_bit_by_bit(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=80)
    t.gaps *= 1 + rng.uniform(4, 15) * np.maximum(0, t.x - rng.uniform(0.3, 0.5))
    t.evaluate(lambda x: 1 + np.exp(-x), int(rng.integers(2, 10)), 0.005)
    return t.evidence()


def _stalls(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=8)
    t.events = [{"kind": "phase", "phase": "training", "at": START}]
    t.silent = max(400.0, float(np.max(t.gaps)) * rng.uniform(10.5, 60))
    return t.evidence(is_running=True)


def _stalls_without_phases(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=8)
    t.use_gpu(rng.choice([0.5, 99.5]), 0.5)
    t.silent = max(2000.0, float(np.max(t.gaps)) * rng.uniform(12, 60))
    return t.evidence(is_running=True)


def _stalls_after_evaluation(rng: np.random.Generator) -> Evidence:
    t = _supervised(rng, least=20)
    end = START + float(t.gaps.sum())
    t.events = [
        {"kind": "phase", "phase": "training", "at": START},
        {"kind": "phase", "phase": "evaluation", "at": end + 1},
        {"kind": "phase", "phase": "training", "at": end + 60},
    ]
    t.silent = 61 + max(400.0, float(np.max(t.gaps)) * rng.uniform(12, 60))
    return t.evidence(is_running=True)


def _long(rng: np.random.Generator) -> Training:
    t = _supervised(rng, least=60)
    t.gaps *= max(1.0, rng.uniform(1500, 20_000) / t.gaps.sum())
    return t


def _waits_for_data(rng: np.random.Generator) -> Evidence:
    t = _long(rng)
    t.use_gpu(rng.uniform(0.0, 3), 1.5)
    return t.evidence()


def _on_the_processor(rng: np.random.Generator) -> Evidence:
    t = _long(rng)
    t.use_gpu(0.0, 0.2, memory=rng.uniform(0, 5e8))
    return t.evidence()


SICK: dict[FindingKind, list[_Draw]] = {
    FindingKind.NOT_FINITE: [
        _lost_for_good, _infinite, _hidden_by_filter, _gradients_lost, _lost_once,
    ],
    FindingKind.DIVERGING: [_rises, _rises, _spikes_and_settles, _runs_away],
    FindingKind.NO_PROGRESS: [
        _rate_zero, _rate_too_low, _all_masked, _frozen, _untrained, _guessing, _equal_rewards,
    ],
    FindingKind.COLLAPSED: [_collapses, _collapses_to_zero],
    FindingKind.OVERFITTING: [_overfits],
    FindingKind.SPIKY: [_spiky],
    FindingKind.SLOW: [_slows_at_once, _slows_bit_by_bit],
    FindingKind.STALLED: [_stalls, _stalls_without_phases, _stalls_after_evaluation],
    FindingKind.GPU_IDLE: [_waits_for_data, _on_the_processor],
}  # fmt: skip
