"""Reads training records. Blocking: it reads files; see `flows.core.training.recorder`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote

import numpy as np

from flows.core.regular_files import open_regular_file
from flows.core.training.recorder import (
    EVENTS,
    KEYS_MAX,
    LOG_SEGMENT,
    ROWS_MAX,
    SUFFIX,
    file_name,
)
from flows.core.training.series import EMPTY, ROW, Series, join, last_pass
from flows.core.training.usage_names import USAGE_PREFIX, USAGE_SEGMENT

_EVENTS_BYTES: Final = 2**23
_SEGMENTS_MAX: Final = 500


class Segment:
    """What one process of one attempt recorded.

    Args:
        folder: Its folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def is_of_log(self) -> bool:
        """Whether its numbers were read from the log."""
        return self._folder.name == LOG_SEGMENT

    @property
    def is_of_usage(self) -> bool:
        """Whether it holds what the job used of its machine, by seconds since it began."""
        return self._folder.name == USAGE_SEGMENT

    def names(self) -> list[str]:
        """List the names of its metrics."""
        files = self._folder.glob(f"*{SUFFIX}")
        return sorted(unquote(path.name.removesuffix(SUFFIX)) for path in files)[:KEYS_MAX]

    def read(self, name: str) -> Series:
        """Read the values of a metric in the order they were logged; empty if it has none."""
        return last_pass(self._rows(name, ROWS_MAX))

    def first_step(self) -> int | None:
        """The step it began at: 0, or that of a checkpoint; None if it logged nothing."""
        rows = (self._rows(name, 1).steps for name in self.names())
        first = [int(steps[0]) for steps in rows if len(steps)]
        if not first:
            return None
        begins = (event.get("step") for event in self.events() if event.get("kind") == "begin")
        began = next((step for step in begins if isinstance(step, int)), None)
        return min(first) - 1 if began is None else began

    def _rows(self, name: str, count: int) -> Series:
        """Read the first rows of a metric."""
        try:
            with open_regular_file(self._folder / file_name(name)) as file:
                raw = file.read(count * ROW.itemsize)
        except OSError:
            return EMPTY
        rows = np.frombuffer(raw, dtype=ROW, count=len(raw) // ROW.itemsize)
        return Series(rows["step"], rows["at"], rows["value"])

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Read what happened, in order; lines that are not whole are left out."""
        try:
            with open_regular_file(self._folder / EVENTS) as file:
                lines = file.read(_EVENTS_BYTES).splitlines()
        except OSError:
            return
        for line in lines:
            try:
                event = cast(object, json.loads(line))
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield cast("Mapping[str, Any]", event)


class TrainingRecord:
    """The records of a job's attempts as one.

    Where segments overlap, the values of the later one count. What
    was read from the log counts for metrics that no training recorded itself.

    Args:
        folders: The record of each attempt, the first attempt first; they need not exist.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        found = [segment for folder in folders for segment in read_segments(folder)]
        self._segments = [segment for segment in found if not segment.is_of_usage]
        # Its steps are seconds of an attempt: those of several attempts do not go together.
        self._usage = next((one for one in reversed(found) if one.is_of_usage), None)

    def names(self) -> list[str]:
        """List the names of all metrics that the training has."""
        return sorted({name for segment in self._segments for name in segment.names()})

    def usage_names(self) -> list[str]:
        """List the names of what the last attempt used, such as ``usage/ram_bytes``."""
        return [f"{USAGE_PREFIX}{name}" for name in self._usage.names()] if self._usage else []

    def read(self, name: str) -> Series:
        """Read the values of a metric by step; of usage by second of the last attempt."""
        if name.startswith(USAGE_PREFIX):
            return self._usage.read(name.removeprefix(USAGE_PREFIX)) if self._usage else EMPTY
        return _join(name, self._trainings) if self._has(name) else _join(name, self._log_parts)

    def events(self) -> list[Mapping[str, Any]]:
        """Read what happened, in order."""
        return [event for segment in self._segments for event in segment.events()]

    def _has(self, name: str) -> bool:
        return any(name in segment.names() for segment, _ in self._trainings)

    @cached_property
    def _trainings(self) -> list[tuple[Segment, int]]:
        return _starts(one for one in self._segments if not one.is_of_log)

    @cached_property
    def _log_parts(self) -> list[tuple[Segment, int]]:
        return _starts(one for one in self._segments if one.is_of_log)


def _starts(segments: Iterable[Segment]) -> list[tuple[Segment, int]]:
    """The segments that have numbers, and the step each began at."""
    starts = ((segment, segment.first_step()) for segment in segments)
    return [(segment, first) for segment, first in starts if first is not None]


def _join(name: str, starts: list[tuple[Segment, int]]) -> Series:
    parts: list[Series] = []
    bound: int | None = None
    for segment, first in reversed(starts):
        part = segment.read(name)
        parts.append(part if bound is None else part.until(bound))
        bound = first if bound is None else min(first, bound)
    return join(reversed(parts))


def read_segments(folder: Path) -> list[Segment]:
    """List the segments of a record, the earliest first."""
    try:
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []
    return [Segment(path) for path in folders[-_SEGMENTS_MAX:]]
