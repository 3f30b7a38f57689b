"""A folder of configs in the catalogue."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.configs.reader import MAX_CONFIG_BYTES
from flows.core.configs.schema import ConfigType
from mcp_server.catalog.entry import Entry, read_entry, with_jobs

MAX_FILES: Final = 5_000
_SUFFIXES: Final = (".yaml", ".yml")
_MAX_DEPTH: Final = 12


class _Stamp(NamedTuple):
    """A mark that stays equal while a file does not change."""

    size: int
    mtime_ns: int


class ConfigFolder:
    """The configs below a folder; a changed file is read again at the next update.

    Args:
        root: The folder. It may be missing.
        prefix: Prefix of the paths of its configs in the catalogue.
    """

    def __init__(self, root: Path, *, prefix: str = "") -> None:
        self.root = root
        self._prefix = prefix
        self._stamps: dict[str, _Stamp] = {}
        self._read: dict[str, Entry] = {}
        self._texts: dict[str, str] = {}
        self.entries: list[Entry] = []

    def look(self) -> bool:
        """Update `entries`; return whether anything changed."""
        stamps = dict(self._scan())
        if stamps == self._stamps:
            return False
        for path in self._read.keys() - stamps.keys():
            del self._read[path]
        for path, stamp in stamps.items():
            if self._stamps.get(path) != stamp:
                self._read[path] = read_entry(path, _read(self._file(path)))
        self._texts.clear()
        self._stamps = stamps
        self.entries = with_jobs(sorted(self._read.values(), key=_place))
        return True

    def file_of(self, path: str) -> Path | None:
        """Return the file of an entry; None: it is not one of these."""
        return self._file(path) if path in self._stamps else None

    def has_all(self, path: str, words: list[str]) -> bool:
        """Whether the config's text has every one of `words`, which are in lower case."""
        text = self._texts.get(path)
        if text is None:
            text = self._texts[path] = _read(self._file(path)).lower()
        return all(word in text for word in words)

    def _file(self, path: str) -> Path:
        return self.root / path.removeprefix(self._prefix)

    def _scan(self) -> Iterator[tuple[str, _Stamp]]:
        found = _files(str(self.root), depth=0)
        for count, (path, stamp) in enumerate(found):
            if count >= MAX_FILES:
                return
            yield self._prefix + os.path.relpath(path, self.root).replace(os.sep, "/"), stamp


def _place(entry: Entry) -> tuple[bool, bool, bool, str]:
    """Order of equal matches: configs before jobs; Oumi's recipes and fine-tuning first."""
    is_job = entry.config_type == ConfigType.JOB
    return is_job, not entry.path.startswith("recipes/"), entry.task != "sft", entry.path


def _files(folder: str, *, depth: int) -> Iterator[tuple[str, _Stamp]]:
    try:
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except OSError:
        return
    for item in items:
        try:
            if item.name.startswith("."):
                continue
            if item.is_dir(follow_symlinks=False):
                if depth < _MAX_DEPTH:
                    yield from _files(item.path, depth=depth + 1)
            elif item.name.endswith(_SUFFIXES) and item.is_file():
                status = item.stat()
                if status.st_size <= MAX_CONFIG_BYTES:
                    yield item.path, _Stamp(status.st_size, status.st_mtime_ns)
        except OSError:
            continue


def _read(file: Path) -> str:
    """Read the file's text; empty if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
