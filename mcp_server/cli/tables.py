"""Tables that fit a terminal: columns that a person copies stay whole, others give way."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

_GAP: Final = 2
"""Columns of a terminal after each cell."""
_LEAST: Final = 8
"""Width below which a cut cell says nothing."""


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[Text]], *, width: int, yielding: Collection[str]
) -> Table:
    """Lay out a table.

    Args:
        columns: Its headings.
        rows: Its cells.
        width: Columns of the terminal.
        yielding: The headings of columns that are cut, or left out, if there is no room for them;
            the first keeps its room longest. The others stay whole, even beyond the width.
    """
    cells = [list(row) for row in rows]
    wanted = {
        name: max([Text(name).cell_len, *(row[number].cell_len for row in cells)])
        for number, name in enumerate(columns)
    }
    shown = _fit(wanted, width=width, yielding=yielding)
    total = sum(shown.values()) + _GAP * len(shown)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", width=total)
    for name in filter(shown.__contains__, columns):
        table.add_column(
            Text(name),
            no_wrap=True,
            overflow="ellipsis",
            min_width=shown[name],
            max_width=shown[name],
        )
    for row in cells:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name in shown))
    return table


def _fit(wanted: dict[str, int], *, width: int, yielding: Collection[str]) -> dict[str, int]:
    """The width of each column that is shown."""
    shown = {name: size for name, size in wanted.items() if name not in yielding}
    room = width - sum(shown.values()) - _GAP * len(shown)
    for name in filter(wanted.__contains__, yielding):
        size = min(wanted[name], room - _GAP)
        if size >= min(wanted[name], _LEAST):
            shown[name] = size
            room -= size + _GAP
    return shown
