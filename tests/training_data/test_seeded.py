"""What the check before a launch finds in seeded data sets."""

from pathlib import Path

import pytest

from flows.core.checks.launch import read_launch
from flows.core.configs.reader import read_config
from flows.core.findings import Finding
from flows.machine_checks.training_data import TrainingDataCheck
from tests.training_data.data_sets import Case, clean, defects, write


async def findings(case: Case, folder: Path) -> list[Finding]:
    launch = read_launch(read_config(write(case, folder)), client_cwd=str(folder))
    assert launch.findings == []
    said = await TrainingDataCheck(within_seconds=60).check(launch)
    assert "Not looked at" not in said
    return launch.findings


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.name}-{n % 5}") for n, case in enumerate(defects())]
)
async def test_a_seeded_defect_is_found(case: Case, folder: Path) -> None:
    found = await findings(case, folder)
    assert (case.code, case.severity) in [(item.code, item.severity) for item in found]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.name}-{n // 12}") for n, case in enumerate(clean())]
)
async def test_nothing_is_found_in_a_clean_data_set(case: Case, folder: Path) -> None:
    assert await findings(case, folder) == []


def test_there_are_sixty_of_each() -> None:
    assert (len(list(defects())), len(list(clean()))) == (60, 60)
