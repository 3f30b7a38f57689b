import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.stack import REPOSITORY

Table = list[list[str]]


@pytest.fixture
def table_of() -> Callable[[str, str], Table]:
    """The rows of the table in a page whose header begins with a given cell."""

    def read(page: str, first_cell: str) -> Table:
        lines = Path(REPOSITORY, page).read_text().splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
        rows: Table = []
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        return rows

    return read
