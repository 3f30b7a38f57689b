"""Copies the metrics that a job prints into its training record, as its log grows."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.logs.lines import REPORT_MARKER, plain_text
from flows.core.private_files import write_private
from flows.core.regular_files import open_regular_file
from flows.core.training.log_values import read_values
from flows.core.training.recorder import LOG_SEGMENT, Recorder

_STATE: Final = "read.json"
_READ_BYTES: Final = 2**22
"""Bytes of one read; the rest of a log that grew faster is read by the next ones."""
_TOKEN_BYTES: Final = 2**14
_SEPARATOR: Final = re.compile(rb"[\r\n]")
_NUMBER: Final = re.compile(rb"\d|\bnan\b|\binf", re.IGNORECASE)


class _State(NamedTuple):
    """How far the log is read; kept beside the numbers, for the next worker."""

    offset: int = 0
    step: int = 0
    counted: int = 0
    total: int = 0


class LogRecorder:
    """Reads the new part of a log at each call. Blocking.

    A worker that takes a job over reads on where the last one stopped. If that one died between
    two writes, some values are recorded twice; readers count the later of two at a step.

    Args:
        log_path: The log; it need not exist yet.
        record: The folder of the job's record.
    """

    def __init__(self, log_path: Path, record: Path) -> None:
        self._log_path = log_path
        self._recorder = Recorder(record, LOG_SEGMENT)
        self._state_path = self._recorder.segment / _STATE
        self._state = _read_state(self._state_path)

    def read(self, *, rest: bool = False) -> None:
        """Record the new values.

        Args:
            rest: Read to the end of the log instead of one part of it.

        Raises:
            OSError: The log cannot be read, or the record cannot be written.
        """
        before = self._state
        while self._read_part() and rest:
            pass
        if self._state != before:
            self._recorder.close()
            write_private(self._state_path, json.dumps(self._state._asdict()))

    def _read_part(self) -> bool:
        """Record the values of the next part; return whether there may be more."""
        try:
            file = open_regular_file(self._log_path)
        except FileNotFoundError:
            return False
        with file:
            size = os.fstat(file.fileno()).st_size
            start = self._state.offset if self._state.offset <= size else 0
            file.seek(start)
            raw = file.read(_READ_BYTES)
        tokens = _SEPARATOR.split(raw)
        last = tokens.pop()
        # A line without an end is read when it has one, unless it is too long for a record.
        kept = 0 if len(last) > _TOKEN_BYTES else len(last)
        self._take(tokens)
        self._state = self._state._replace(offset=start + len(raw) - kept)
        return len(raw) == _READ_BYTES

    def _take(self, tokens: list[bytes]) -> None:
        for token in _candidates(tokens):
            values = read_values(plain_text(token))
            if values.total is not None and values.total < self._state.total:
                continue  # the bar of an evaluation
            if values.metrics:
                counted = self._state.counted + 1
                step = values.step if values.step is not None else self._state.step or counted
                self._recorder.log(step, values.metrics)
                self._state = self._state._replace(counted=counted)
            self._state = self._state._replace(
                step=self._state.step if values.step is None else values.step,
                total=values.total or self._state.total,
            )


def _candidates(tokens: list[bytes]) -> Iterator[bytes]:
    """The tokens that may hold numbers."""
    marker = REPORT_MARKER.encode()
    for token in tokens:
        if len(token) <= _TOKEN_BYTES and _NUMBER.search(token) and marker not in token:
            yield token


def _read_state(path: Path) -> _State:
    with suppress(OSError, ValueError, TypeError):
        return _State(**json.loads(path.read_bytes()))
    return _State()
