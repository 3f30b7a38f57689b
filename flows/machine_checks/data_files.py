"""Whether the reader of each data file takes all its rows: whole files, up to a limit."""

import asyncio
import time
from pathlib import Path
from typing import Final

from flows.core.checks.data_files import Format, Limits, data_inputs, wrong_content
from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.file_names import is_file
from flows.core.findings import FindingCode

_SECONDS: Final = 4.0
"""For all files of a launch."""
_BYTES: Final = 100_000_000
"""For each file; it takes some 1.5 s."""
_REMEMBERED: Final = 64
"""Answers that are kept: the trials of a sweep have the same data."""

_Key = tuple[str, int, int, Format]


class DataFileCheck:
    """Reads the data files of launches on this machine.

    Args:
        within_seconds: How long a launch may be delayed.
    """

    def __init__(self, *, within_seconds: float = _SECONDS) -> None:
        self._within_seconds = within_seconds
        self._known: dict[_Key, str] = {}

    async def check(self, launch: Launch) -> None:
        """Note every row that a reader refuses, each file in one finding."""
        if launch.target.is_local:
            await asyncio.to_thread(self._check, launch)

    def _check(self, launch: Launch) -> None:
        until = time.monotonic() + self._within_seconds
        for recipe in launch.recipes:
            for key, wanted in data_inputs(recipe).items():
                path = _path(recipe, dict(recipe.inputs()).get(key, ""))
                wrong = self._look(path, wanted, until) if path is not None else ""
                if wrong:
                    message = f"{key} is {path}, {wrong}"
                    recipe.notes.error(FindingCode.BAD_DATA_FILE, message, "Fix the file", key=key)

    def _look(self, path: Path, wanted: Format, until: float) -> str:
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size, wanted)
        if key not in self._known:
            limits = Limits(lines=_BYTES, bytes=_BYTES, until=until)
            found = wrong_content(path, wanted, limits)
            if time.monotonic() > until:
                return found
            if len(self._known) >= _REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[key] = found
        return self._known[key]


def _path(recipe: Recipe, text: str) -> Path | None:
    if not text or "$" in text or text.startswith("~"):
        return None
    if recipe.base is None and not text.startswith("/"):
        return None
    path = (recipe.base or Path("/")) / text
    return path if is_file(path) else None
