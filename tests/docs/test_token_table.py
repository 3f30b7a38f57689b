"""The table of what tools cost to read is what they cost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.tokens import listing

Table = list[list[str]]


async def test_the_token_table_has_every_tool_at_what_it_costs(
    table_of: Callable[[str, str], Table], tmp_path: Path
) -> None:
    measured = await listing(tmp_path)
    rows = {row[0].strip("`"): row[1:] for row in table_of("docs/for-models.md", "tool")}
    again = "run `python -m benchmarks.tokens`"
    assert [tool for tool in rows if tool != "all"] == list(measured), again
    for tool, sizes in measured.items():
        written = [int(cell.replace(",", "")) for cell in rows[tool][:2]]
        assert written == pytest.approx(sizes, rel=0.1), f"{tool}: {again}"
        assert int(rows[tool][2].replace(",", "") or 0) <= 12_000
    read, schema = (sum(column) for column in zip(*measured.values(), strict=True))
    assert read <= 24_000
    assert read + schema <= 75_000
