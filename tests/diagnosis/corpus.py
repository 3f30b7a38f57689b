"""The labelled corpus: synthetic trainings, and logs of real failures."""

import json
import random
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from flows.core.diagnosis.evidence import ConfigFacts, Ending, Evidence
from flows.core.states import TerminationReason
from flows.core.training.series import Series
from tests.diagnosis.healthy import SHAPES
from tests.diagnosis.sick import SICK

LOGS = Path(__file__).with_name("logs")
SICK_EACH = 60
HEALTHY = 112
HELD_OUT_SEED = 20261130
NOW = 1_800_000_000.0


class Case(NamedTuple):
    """A training and what is wrong with it.

    Attributes:
        name: Names it in a failure of the test.
        kind: The kind of finding that it must give; empty: none.
        origin: ``curve``, ``real curve``, ``provoked`` (a log of the real tools) or ``written`` (a
            log written by hand).
        evidence: What is known of it.
    """

    name: str
    kind: str
    origin: str
    evidence: Evidence


def read_cases() -> list[Case]:
    """All cases, always the same."""
    return [*_sick(), *_healthy(), *_real(), *_provoked(), *_written()]


def held_out(cases: Iterable[Case]) -> set[str]:
    """The names of a third of each kind, which no rule was tuned on."""
    kinds: dict[str, list[str]] = {}
    for case in cases:
        kinds.setdefault(f"{case.kind} {case.origin}", []).append(case.name)
    rng = random.Random(HELD_OUT_SEED)
    chosen: set[str] = set()
    for _, names in sorted(kinds.items()):
        chosen.update(rng.sample(sorted(names), max(1, len(names) // 3)))
    return chosen


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _sick() -> Iterable[Case]:
    for kind, draws in SICK.items():
        for number in range(SICK_EACH):
            draw = draws[number % len(draws)]
            name = f"{kind}-{draw.__name__.strip('_')}-{number}"
            yield Case(name, kind, "curve", draw(_rng(name)))


def _healthy() -> Iterable[Case]:
    for number in range(HEALTHY):
        draw = SHAPES[number % len(SHAPES)]
        name = f"healthy-{draw.__name__}-{number}"
        yield Case(name, "", "curve", draw(_rng(name)))


def _real() -> Iterable[Case]:
    """Curves of real trainings of a tiny model; see `provoking/curves.py`."""
    for name, facts in json.loads((LOGS / "curves.json").read_text()).items():
        yield Case(name, facts["kind"], "real curve", _trained(facts["history"]))


def _trained(history: list[dict[str, float]]) -> Evidence:
    points: dict[str, list[tuple[int, float, float]]] = {}
    for number, row in enumerate(history):
        for metric, value in row.items():
            if metric != "step":
                at = NOW + number
                points.setdefault(metric, []).append((int(row["step"]), at, value))
    series = {metric: Series.of(rows) for metric, rows in points.items()}
    ended = Ending(TerminationReason.COMPLETED, 0)
    return Evidence(now=NOW + len(history), series=series, ended=ended)


def _provoked() -> Iterable[Case]:
    index = json.loads((LOGS / "provoked.json").read_text())
    for name, facts in sorted(index.items()):
        code = facts["exit_code"]
        reason = TerminationReason.NONZERO_EXIT if code else TerminationReason.COMPLETED
        ended = Ending(reason, code if code >= 0 else None, -code if code < 0 else None)
        log = (LOGS / f"{name}.log").read_text()
        yield Case(name, facts["kind"], "provoked", _ended(log, ended))


def _written() -> Iterable[Case]:
    for facts in yaml.safe_load((LOGS / "written.yaml").read_text()):
        signal = facts.get("signal")
        code = None if signal else facts.get("exit_code", 1)
        reason = TerminationReason(facts.get("reason", TerminationReason.NONZERO_EXIT))
        yield Case(
            facts["name"],
            facts["kind"],
            "written",
            _ended(facts["log"], Ending(reason, code, signal)),
        )


def _ended(log: str, ended: Ending) -> Evidence:
    config = ConfigFacts(per_device_batch=8, accumulation=2, effective_batch=16)
    return Evidence(now=NOW, log=log.splitlines(), ended=ended, config=config)
