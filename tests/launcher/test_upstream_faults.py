"""The faults upstream that docs/clouds.md tells of: each is where it says, and has its test."""

import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "clouds.md"
MODULE_OF = {"oumi": "oumi", "skypilot": "sky"}
SECTION = PAGE.read_text().partition("## Faults upstream\n")[2].partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if "::" in line]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_fault_upstream_is_where_the_page_says_and_its_way_round_is_tested(
    row: list[str],
) -> None:
    _, seen, done, test = row
    place = re.fullmatch(r"(\w+) ([\d.]+): `(.+)`, `(\w+)`", seen)
    assert place
    package, release, file, name = place.groups()
    assert version(package).startswith(release)
    spec = find_spec(MODULE_OF[package])
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / file).read_text()
    assert re.search(rf"^\s*(async )?def {name}\(|^{name} =", source, re.MULTILINE)
    assert done
    of, _, case = test.strip("`").partition("::")
    assert re.search(rf"^(async )?def {case}\(", (HERE / of).read_text(), re.MULTILINE)


def test_there_are_faults_on_the_page() -> None:
    assert len(ROWS) > 20
