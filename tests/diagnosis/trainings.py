"""Synthetic trainings: what a trainer would record, drawn from a seed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from flows.core.diagnosis.evidence import ConfigFacts, Ending, Evidence
from flows.core.states import TerminationReason
from flows.core.training.series import Series

START = 1_800_000_000.0


@dataclass
class Training:
    """A training under construction: `rows` logged rows, one each `every` steps."""

    rng: np.random.Generator
    rows: int
    every: int = 1
    seconds: float = 1.0
    first: int = 0
    values: dict[str, np.ndarray] = field(default_factory=dict)
    events: list[dict[str, object]] = field(default_factory=list)
    evals: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    usage: dict[str, Series] = field(default_factory=dict)
    phase: str = ""
    silent: float | None = None

    def __post_init__(self) -> None:
        self.steps = self.first + self.every * np.arange(1, self.rows + 1)
        self.x = np.arange(self.rows) / max(1, self.rows - 1)
        jitter = np.exp(self.rng.normal(0, self.rng.uniform(0.01, 0.2), self.rows))
        self.gaps = self.every * self.seconds * jitter
        self.rate()

    def rate(
        self, peak: float | None = None, shape: str | None = None, warmup: float = 0.05
    ) -> None:
        peak = 10 ** self.rng.uniform(-5, -3.3) if peak is None else peak
        shape = str(self.rng.choice(["cosine", "linear", "constant"])) if shape is None else shape
        rest = np.clip((self.x - warmup) / max(1e-9, 1 - warmup), 0, 1)
        curve = {
            "cosine": 0.5 * (1 + np.cos(np.pi * rest)),
            "linear": 1 - rest,
            "constant": np.ones(self.rows),
        }[shape]
        self.values["learning_rate"] = (
            peak * curve * np.clip((self.x + 1e-3) / max(warmup, 1e-3), 0, 1)
        )

    def log(self, name: str, values: np.ndarray) -> None:
        self.values[name] = np.asarray(values, dtype=float)

    def noisy(self, values: np.ndarray, sigma: float) -> np.ndarray:
        """Noise in proportion to the level, with some of it carried over."""
        noise = self.rng.normal(0, 1, self.rows)
        return values * np.exp(sigma * noise - sigma**2 / 2)

    def norms(self, level: float = 1.0, sigma: float | None = None) -> None:
        sigma = self.rng.uniform(0.05, 0.5) if sigma is None else sigma
        self.log("grad_norm", self.noisy(level * (1 + 2 * np.exp(-20 * self.x)), sigma))

    def evaluate(self, curve: Callable[[np.ndarray], np.ndarray], count: int, sigma: float) -> None:
        at = np.unique(np.linspace(0, self.rows - 1, count + 1).astype(int)[1:])
        levels = curve(self.x[at]) * np.exp(self.rng.normal(0, sigma, len(at)))
        self.gaps[np.minimum(at + 1, self.rows - 1)] += self.seconds * self.rng.uniform(1, 30)
        self.evals["eval_loss"] = list(zip(at.tolist(), levels.tolist(), strict=True))

    def use_gpu(self, level: float, sigma: float = 8.0, memory: float = 4e10) -> None:
        end = START + self.gaps.sum()
        times = np.arange(START - 60, end + 60, max(5.0, (end - START) / 800))
        busy = np.clip(self.rng.normal(level, sigma, len(times)), 0, 100)
        none = np.zeros(len(times), dtype=np.int64)
        self.usage["gpu0_utilization_percent"] = Series(none, times, busy)
        self.usage["gpu0_memory_bytes"] = Series(none, times, np.full(len(times), memory))

    def evidence(self, *, is_running: bool | None = None, **config: float) -> Evidence:
        running = bool(self.rng.random() < 0.5) if is_running is None else is_running
        times = START + np.cumsum(self.gaps)
        series = {name: Series(self.steps, times, values) for name, values in self.values.items()}
        for name, points in self.evals.items():
            series[name] = Series.of(
                (int(self.steps[row]), float(times[row]) + 0.5 * self.seconds, level)
                for row, level in points
            )
        silent = self.silent if self.silent is not None else self.rng.uniform(0, 2) * self.gaps[-1]
        begin = {
            "kind": "begin",
            "at": START,
            "step": self.first,
            "max_steps": int(self.steps[-1]) * 2,
        }
        return Evidence(
            now=float(times[-1]) + silent,
            is_running=running,
            series=series,
            events=[begin, *self.events],
            log=["{'loss': 1.0}"],
            ended=None if running else Ending(TerminationReason.COMPLETED, 0),
            usage=self.usage,
            phase=self.phase,
            config=ConfigFacts(per_device_batch=4, accumulation=8, effective_batch=32),
        )


def draw(rng: np.random.Generator, *, least: int = 40, most: int = 4000) -> Training:
    """A training of any length and pace."""
    rows = int(np.exp(rng.uniform(np.log(least), np.log(most))))
    every = int(rng.choice([1, 1, 5, 10, 50]))
    return Training(rng, rows, every, float(10 ** rng.uniform(-0.7, 1.2)))


def fall(t: Training, start: float, end: float, speed: float | None = None) -> np.ndarray:
    speed = float(t.rng.uniform(2, 30)) if speed is None else speed
    if t.rng.random() < 0.5:
        return end + (start - end) * np.exp(-speed * t.x)
    return end + (start - end) * (1 + speed * 3 * t.x) ** -0.7
