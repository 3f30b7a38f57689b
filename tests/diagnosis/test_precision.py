"""How often the diagnosis is right, on cases that no rule was tuned on."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flows.core.diagnosis.findings import FindingKind
from flows.core.diagnosis.rules import diagnose
from tests.diagnosis.corpus import Case, held_out, read_cases

LEAST = 0.95


class Score(NamedTuple):
    """How often a kind was found, found in error, and missed."""

    kind: str
    found: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.wrong)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)


def find(case: Case) -> set[str]:
    return {finding.kind.value for finding in diagnose(case.evidence).findings}


def scores_of(cases: Sequence[Case], found: dict[str, set[str]]) -> list[Score]:
    counts: Counter[tuple[str, str]] = Counter()
    for case in cases:
        wanted = {case.kind} if case.kind else set()
        counts.update((kind, "found") for kind in found[case.name] & wanted)
        counts.update((kind, "wrong") for kind in found[case.name] - wanted)
        counts.update((kind, "missed") for kind in wanted - found[case.name])
    words = ("found", "wrong", "missed")
    return [Score(kind, *(counts[kind, word] for word in words)) for kind in FindingKind]


def table_of(tuned: Sequence[Score], held: Sequence[Score]) -> str:
    lines = [f"{'kind':14} | {'held out':^33} | {'tuned on':^33}"]
    head = f"{'cases':>5} {'wrong':>6} {'missed':>6} {'prec':>6} {'recall':>6}"
    lines.append(f"{'':14} | {head} | {head}")
    for one, other in zip(held, tuned, strict=True):
        parts = (
            f"{score.found + score.missed:5} {score.wrong:6} {score.missed:6} "
            f"{score.precision:6.3f} {score.recall:6.3f}"
            for score in (one, other)
        )
        lines.append(f"{one.kind:14} | {' | '.join(parts)}")
    return "\n".join(lines)


def test_every_kind_is_found_and_rarely_in_error(
    record_property: Callable[[str, object], None],
) -> None:
    cases = read_cases()
    found = {case.name: find(case) for case in cases}
    apart = held_out(cases)
    held = scores_of([case for case in cases if case.name in apart], found)
    tuned = scores_of([case for case in cases if case.name not in apart], found)
    healthy = [case for case in cases if not case.kind]
    alarms = {case.name: found[case.name] for case in healthy if found[case.name]}
    curves = sum("curve" in case.origin for case in cases)
    provoked = sum(case.origin == "provoked" for case in cases)
    record_property(
        "shown",
        f"Diagnosis of {curves} curves, {provoked} logs of real tools and "
        f"{len(cases) - curves - provoked} written logs; {len(alarms)} false alarms in "
        f"{len(healthy)} healthy ones\n{table_of(tuned, held)}",
    )
    assert not alarms
    assert len(cases) == len(found), "two cases of one name"
    assert min(score.found + score.missed for score in held) >= 4
    low = [score for score in held if min(score.precision, score.recall) < LEAST]
    wrong = {
        case.name: (case.kind, found[case.name])
        for case in cases
        if found[case.name] != ({case.kind} if case.kind else set())
    }
    assert not low, wrong
