"""Healthy trainings of many shapes, in which no rule may find anything."""

from itertools import pairwise

import numpy as np

from flows.core.diagnosis.evidence import Evidence
from tests.diagnosis.trainings import START, Training, draw, fall


def plain(rng: np.random.Generator) -> Evidence:
    t = draw(rng)
    start = rng.uniform(1, 3)
    t.log("loss", t.noisy(fall(t, start, start * rng.uniform(0.3, 0.8)), rng.uniform(0.005, 0.1)))
    t.norms()
    t.use_gpu(rng.uniform(35, 97), rng.uniform(2, 20))
    return t.evidence()


def pretraining(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=200)
    t.log(
        "train/loss",
        t.noisy(fall(t, rng.uniform(9.5, 11.5), rng.uniform(2.5, 3.8)), rng.uniform(0.003, 0.03)),
    )
    t.norms(rng.uniform(0.3, 2))
    return t.evidence()


def warm_restarts(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=150)
    cycles = int(rng.integers(2, 6))
    part = (t.x * cycles) % 1
    t.log("learning_rate", 1e-3 * 0.5 * (1 + np.cos(np.pi * part)))
    start = rng.uniform(1.2, 4)
    bump = 1 + rng.uniform(0.05, 0.3) * np.exp(-8 * part) * (t.x > 1 / cycles)
    t.log("loss", t.noisy(fall(t, start, start * 0.4) * bump, rng.uniform(0.01, 0.06)))
    t.norms()
    return t.evidence()


def curriculum(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=150)
    level = np.zeros(t.rows)
    edges = [0.0, *np.sort(rng.uniform(0.2, 0.8, int(rng.integers(1, 4)))), 1.01]
    now = rng.uniform(1.0, 3.0)
    for start, end in pairwise(edges):
        inside = (t.x >= start) & (t.x < end)
        low = now * rng.uniform(0.55, 0.8)
        level[inside] = low + (now - low) * np.exp(
            -rng.uniform(4, 12) * (t.x[inside] - start) / (end - start)
        )
        now = low * rng.uniform(1.1, 1.6)
    t.log("loss", t.noisy(level, rng.uniform(0.01, 0.06)))
    t.norms()
    return t.evidence()


def grpo(rng: np.random.Generator) -> Evidence:
    t = draw(rng, most=1500)
    t.log("loss", rng.normal(0, 0.02, t.rows) + 0.05 * t.x)
    low, high = sorted(rng.uniform(-1, 2, 2))
    t.log("reward", low + (high - low) * (1 - np.exp(-3 * t.x)) + rng.normal(0, 0.1, t.rows))
    t.log("rewards/accuracy/mean", rng.uniform(0, 1, t.rows))
    t.log("kl", np.abs(rng.normal(0, 0.01, t.rows)) + rng.uniform(0, 1.5) * t.x)
    lengths = rng.uniform(80, 200) * (1 + rng.uniform(0, 3) * t.x)
    t.log("completions/mean_length", t.noisy(lengths, 0.1))
    t.gaps = t.gaps * (0.3 + 0.7 * lengths / lengths[0])
    t.norms(0.3, rng.uniform(0.2, 0.5))
    return t.evidence()


def preferences(rng: np.random.Generator) -> Evidence:
    t = draw(rng, most=1500)
    end = 10 ** rng.uniform(-4, -0.4)
    t.log("loss", t.noisy(fall(t, 0.6931, end), rng.uniform(0.02, 0.3)))
    for name, sign in (("rewards/chosen", -1), ("rewards/rejected", -3), ("rewards/margins", 2)):
        t.log(name, sign * t.x + rng.normal(0, 0.1, t.rows))
    t.norms(5)
    return t.evidence()


def tiny(rng: np.random.Generator) -> Evidence:
    t = Training(rng, int(rng.integers(1, 8)), 1, float(rng.uniform(0.05, 3)))
    t.log("loss", rng.uniform(1, 6) * np.exp(-rng.uniform(0, 1) * t.x) + rng.normal(0, 0.2, t.rows))
    t.norms(rng.uniform(0.5, 10))
    return t.evidence()


def small_batches(rng: np.random.Generator) -> Evidence:
    t = draw(rng)
    start = rng.uniform(1, 3)
    t.log("loss", t.noisy(fall(t, start, start * rng.uniform(0.6, 0.95)), rng.uniform(0.2, 0.6)))
    t.norms(2, rng.uniform(0.4, 0.8))
    return t.evidence()


def flat_tail(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=200)
    start = rng.uniform(0.8, 4)
    t.log(
        "loss",
        t.noisy(
            fall(t, start, start * rng.uniform(0.01, 0.7), rng.uniform(40, 300)),
            rng.uniform(0.005, 0.1),
        ),
    )
    t.rate(shape="constant")
    t.norms()
    t.evaluate(
        lambda x: start * 0.7 * np.ones(len(x)), int(rng.integers(3, 30)), rng.uniform(0.001, 0.02)
    )
    return t.evidence()


def resumed(rng: np.random.Generator) -> Evidence:
    rows = int(rng.integers(30, 800))
    t = Training(
        rng,
        rows,
        int(rng.choice([1, 10])),
        float(rng.uniform(0.5, 10)),
        first=int(rng.integers(200, 9000)),
    )
    level = rng.uniform(0.5, 5)
    t.log("loss", t.noisy(level * (1 - rng.uniform(0, 0.05) * t.x), rng.uniform(0.003, 0.1)))
    t.rate(10 ** rng.uniform(-7, -5), "linear", 0.0)
    t.norms()
    return t.evidence()


def resumed_within(rng: np.random.Generator) -> Evidence:
    """Attempts one after the other, with hours between, the later one on another machine."""
    t = draw(rng, least=100, most=1500)
    start = rng.uniform(1, 3)
    t.log("loss", t.noisy(fall(t, start, start * 0.5), rng.uniform(0.01, 0.1)))
    t.norms()
    cut = int(t.rows * rng.uniform(0.3, 0.8))
    t.gaps[cut:] *= rng.uniform(0.5, 3)
    t.gaps[cut] += rng.uniform(600, 50_000)
    at = START + float(np.cumsum(t.gaps)[cut] - 0.5 * t.seconds)
    t.events = [
        {
            "kind": "save",
            "step": int(t.steps[cut - 1]),
            "at": START + float(np.cumsum(t.gaps)[cut - 1]),
        },
        {"kind": "begin", "step": int(t.steps[cut - 1]), "at": at},
    ]
    return t.evidence()


def evaluated(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=80, most=2000)
    start = rng.uniform(1, 3)
    end = start * rng.uniform(0.4, 0.85)
    t.log("loss", t.noisy(fall(t, start, end), rng.uniform(0.01, 0.08)))
    rise = rng.uniform(0, 0.02)
    t.evaluate(
        lambda x: end * 1.05 + (start - end) * np.exp(-9 * x) + end * rise * x,
        int(rng.integers(2, 25)),
        rng.uniform(0.001, 0.01),
    )
    t.norms()
    return t.evidence()


def evaluating_now(rng: np.random.Generator) -> Evidence:
    """Silent for long, as it evaluates, saves, downloads or maps its data."""
    t = draw(rng, least=10, most=500)
    t.log("loss", t.noisy(fall(t, 2.0, 1.2), 0.05))
    t.norms()
    t.silent = float(rng.uniform(600, 20_000))
    end = START + float(t.gaps.sum())
    phase = str(rng.choice(["evaluation", "checkpoint", "dataset map", "download", "start-up"]))
    if rng.random() < 0.5:
        t.phase = phase
    else:
        t.events = [
            {"kind": "phase", "phase": "training", "at": START},
            {"kind": "phase", "phase": phase, "at": end + 1},
        ]
    return t.evidence(is_running=True)


def warming_up(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=25, most=200)
    t.log("learning_rate", 1e-4 * (0.001 + t.x))
    t.log("loss", t.noisy(np.full(t.rows, 10.8) * (1 - 0.02 * t.x**3), rng.uniform(0.002, 0.02)))
    t.norms()
    return t.evidence(is_running=True)


def half_precision(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=60)
    t.log("loss", t.noisy(fall(t, rng.uniform(1, 3), 0.8), 0.05))
    t.norms()
    t.values["grad_norm"][: int(rng.integers(1, 4))] = np.inf
    t.values["grad_norm"][int(rng.integers(5, t.rows))] = np.nan
    return t.evidence()


def continued(rng: np.random.Generator) -> Evidence:
    """A model that is good already, on more of the same data."""
    t = draw(rng)
    level = rng.uniform(1.2, 2.8)
    t.log("loss", t.noisy(level * (1 - rng.uniform(0, 0.04) * t.x), rng.uniform(0.005, 0.06)))
    t.rate(10 ** rng.uniform(-5.5, -4))
    t.norms()
    return t.evidence()


def epochs(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=150)
    count = int(rng.integers(2, 5))
    level = rng.uniform(1, 2.5) * rng.uniform(0.75, 0.95) ** np.floor(t.x * count * 0.999)
    t.log("loss", t.noisy(level, rng.uniform(0.01, 0.08)))
    t.evaluate(lambda x: 1.4 + 0.3 * np.exp(-6 * x), count, 0.003)
    t.norms()
    return t.evidence()


def longer_rows(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=100)
    t.log("loss", t.noisy(fall(t, 2.5, 1.4), 0.05))
    lengths = rng.uniform(200, 900) * (1 + rng.uniform(1, 4) * np.floor(t.x * 3.99) / 3)
    t.log("num_tokens", np.cumsum(lengths * t.every))
    t.gaps = t.gaps * lengths / lengths[0]
    t.norms()
    return t.evidence()


def one_spike(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=120)
    t.log("loss", t.noisy(fall(t, 2.5, 1.1), rng.uniform(0.01, 0.05)))
    t.norms(1.0, 0.2)
    at = int(rng.integers(20, t.rows - 15))
    for offset in range(int(rng.integers(1, 3))):
        t.values["loss"][at + offset] *= rng.uniform(1.5, 3)
        t.values["grad_norm"][at + offset] *= rng.uniform(5, 50)
    return t.evidence()


def classification(rng: np.random.Generator) -> Evidence:
    t = draw(rng)
    t.log("loss", t.noisy(fall(t, 0.69, rng.uniform(0.02, 0.5)), rng.uniform(0.05, 0.4)))
    t.evaluate(lambda x: 0.3 + 0.35 * np.exp(-8 * x), int(rng.integers(2, 12)), 0.01)
    t.norms(3)
    t.use_gpu(rng.uniform(25, 60), 20)
    return t.evidence()


def domain_blocks(rng: np.random.Generator) -> Evidence:
    """Data that is sorted by topic, so that the loss goes up and down in blocks."""
    t = draw(rng, least=150)
    topics = rng.uniform(0.8, 1.4, 12)[(t.x * int(rng.integers(4, 12))).astype(int)]
    start = rng.uniform(1.5, 3)
    t.log("loss", t.noisy(fall(t, start, start * 0.6) * topics, rng.uniform(0.01, 0.08)))
    t.norms(1.5)
    return t.evidence()


def harder_end(rng: np.random.Generator) -> Evidence:
    """A curriculum that ends with harder data, on which the loss is higher, and falls."""
    t = draw(rng, least=150)
    start = rng.uniform(1.5, 3)
    level = fall(t, start, start * 0.55, 6.0)
    last = t.x > rng.uniform(0.6, 0.85)
    level[last] *= 1 + rng.uniform(0.1, 0.5) * (1 - 0.5 * np.linspace(0, 1, int(last.sum())))
    t.log("loss", t.noisy(level, rng.uniform(0.01, 0.08)))
    t.norms()
    return t.evidence()


def heavy_tails(rng: np.random.Generator) -> Evidence:
    t = draw(rng)
    start = rng.uniform(1, 3)
    noise = np.clip(rng.standard_t(3, t.rows) * rng.uniform(0.03, 0.15), -0.8, 3)
    t.log("loss", fall(t, start, start * 0.6) * (1 + noise))
    t.log("grad_norm", np.exp(np.clip(0.25 * rng.standard_t(5, t.rows), -2, 2)))
    return t.evidence()


def hiccups(rng: np.random.Generator) -> Evidence:
    """Steps that take many times as long now and then: saves, other jobs, a machine asleep."""
    t = draw(rng)
    t.log("loss", t.noisy(fall(t, 2.0, 1.2), 0.05))
    t.norms()
    at = rng.random(t.rows) < rng.uniform(0.01, 0.08)
    t.gaps[at] *= rng.uniform(2, 40, int(at.sum()))
    t.gaps[: max(1, t.rows // 50)] *= rng.uniform(1, 30)
    return t.evidence()


def shared_machine(rng: np.random.Generator) -> Evidence:
    t = draw(rng)
    t.log("loss", t.noisy(fall(t, 2.0, 1.2), 0.05))
    t.norms()
    t.gaps *= rng.uniform(0.75, 1.25, 9)[(t.x * 8).astype(int)]
    return t.evidence()


def little_gpu(rng: np.random.Generator) -> Evidence:
    """A small model: the GPU has little to do, but it works."""
    t = draw(rng, least=60)
    t.gaps *= max(1.0, rng.uniform(1500, 9000) / t.gaps.sum())
    t.log("loss", t.noisy(fall(t, 2.0, 1.2), 0.05))
    t.use_gpu(rng.uniform(16, 35), rng.uniform(3, 12), 3e9)
    return t.evidence()


def evaluating_often(rng: np.random.Generator) -> Evidence:
    """Evaluations that take longer than the training between them, with an idle GPU in them."""
    t = draw(rng, least=60, most=600)
    t.log("loss", t.noisy(fall(t, 2.0, 1.0), 0.05))
    t.evaluate(lambda x: 1.1 + 0.8 * np.exp(-6 * x), int(rng.integers(4, 12)), 0.004)
    rows = [row for row, _ in t.evals["eval_loss"]]
    for row in rows[:-1]:
        t.gaps[row + 1] += t.seconds * t.every * rng.uniform(20, 90)
    t.use_gpu(rng.uniform(40, 90))
    return t.evidence()


def stable_then_decay(rng: np.random.Generator) -> Evidence:
    t = draw(rng, least=100)
    t.log("learning_rate", 4e-4 * np.minimum(1, (1 - t.x) * 5))
    start = rng.uniform(2.5, 11)
    level = fall(t, start, start * 0.4, 20.0) * (1 - 0.08 * np.maximum(0, t.x - 0.8) * 5)
    t.log("loss", t.noisy(level, rng.uniform(0.005, 0.04)))
    t.norms(0.4)
    return t.evidence()


SHAPES = [
    plain, pretraining, warm_restarts, curriculum, grpo, preferences, tiny, small_batches,
    flat_tail, resumed, resumed_within, evaluated, evaluating_now, warming_up, half_precision,
    continued, epochs, longer_rows, one_spike, classification, domain_blocks, harder_end,
    heavy_tails, hiccups, shared_machine, little_gpu, evaluating_often, stable_then_decay,
]  # fmt: skip
