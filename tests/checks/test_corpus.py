"""Seeded defects: what share of them is found, and what is found in configs that have none."""

import pytest

from flows.core.findings import Finding
from tests.checks.corpus_world import Case, World, broken_cases, clean_cases


async def test_every_seeded_defect_is_found_and_nothing_else(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = broken_cases()
    missed: list[str] = []
    more: list[str] = []
    for case in cases:
        found = await world.findings(case)
        rest = [finding for finding in found if not _is_defect(case, finding)]
        if len(rest) == len(found):
            missed.append(f"{case.name}: {_shown(found)}")
        elif rest:
            more.append(f"{case.name}: {_shown(rest)}")
    with capsys.disabled():
        print(f"\nrecall: {len(cases) - len(missed)} of {len(cases)} seeded defects")
    assert "\n".join(missed) == ""
    assert "\n".join(more) == ""
    assert len(cases) >= 60


async def test_nothing_is_found_in_clean_configs(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = clean_cases()
    found = {
        case.name: [
            finding
            for finding in await world.findings(case)
            if finding.code.value not in case.options.get("noted", "")
        ]
        for case in cases
    }
    wrong = [f"{name}: {_shown(findings)}" for name, findings in found.items() if findings]
    with capsys.disabled():
        print(f"\nfalse positives: {len(wrong)} of {len(cases)} clean configs")
    assert "\n".join(wrong) == ""
    assert len(cases) >= 60


def _is_defect(case: Case, finding: Finding) -> bool:
    return (finding.code.value, finding.key, finding.severity.value) == (
        case.code,
        case.key,
        case.severity,
    )


def _shown(findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    return [(f.code.value, f.key, f.severity.value, f.message) for f in findings]
