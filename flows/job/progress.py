"""The progress of a training, read from its log as the log grows."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from flows.core.divergence import raw_loss
from flows.core.logs.lines import REPORT_MARKER
from flows.core.models import JobProgress
from flows.core.numbers import COUNT_MAX, Number, to_count, to_number
from flows.core.regular_files import open_regular_file

_READ_BYTES: Final = 2**20
_TOKEN_BYTES: Final = 2**14
_SEPARATOR = re.compile(rb"[\r\n]")
# What tqdm 4.70 draws for the trainers of Transformers (no description) and Oumi ("Training").
# Other bars carry a description or another unit; one nested below it ends by moving up a line.
_BAR = re.compile(
    r"\s*(?:Training:\s*)?\d{1,3}%\|[^|]*\|\s*(?P<step>\d{1,16})/(?P<total>\d{1,16}) "
    r"\[[\d:]+<(?P<left>[\d:]+|\?), +[\d.?]+(?:it/s|s/it)[^]]*\](?!\x1b\[A)",
    re.ASCII,
)
_CLOCK = re.compile(r"(?:(?P<hours>\d{1,9}):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})", re.ASCII)
_LOSS = re.compile(r"(?:\{'loss'|'train/loss'): '?(?P<loss>[-+.\w]+)", re.ASCII)
_WHOLE_LOSS = re.compile(r"'train_loss': '?(?P<loss>[-+.\w]+)", re.ASCII)
_NOT_FINITE = re.compile(r"'(\w+)': '?[-+]?(?:nan|inf)\b", re.ASCII)
_STEP = re.compile(r"'(?:global_)?step': '?(?P<step>\d{1,16})\b", re.ASCII)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


_Finite = Annotated[float | None, AfterValidator(_finite)]
_Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]


class _Report(BaseModel):
    """A report of the progress hook."""

    step: _Count
    max_steps: Annotated[int, Field(gt=0, le=COUNT_MAX)] | None = None
    loss: Number | None = None
    eta_seconds: _Finite = None


class ProgressReader:
    """Reads what was added to a log since the last look, at most its last MiB.

    Reports of the progress hook take precedence; without any, it reads what the trainer prints: its
    progress bar and its metrics. Whatever a log holds, reading it only raises an `OSError`.

    Args:
        path: The log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._size = 0
        self._report: _Report | None = None
        self._output = _TrainerOutput()
        self._last = JobProgress()

    def read(self) -> JobProgress | None:
        """Read the progress; None if it has not changed."""
        for token in self._new_tokens():
            self._take(token)
        progress = _progress(self._report or self._output)
        if progress == self._last:
            return None
        self._last = progress
        return progress

    def _new_tokens(self) -> Iterator[bytes]:
        """Split the new text at carriage returns and newlines; the last token may be incomplete."""
        try:
            file = open_regular_file(self._path)
        except FileNotFoundError:
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if size == self._size:
                return
            self._size = size
            if size < self._offset:
                self._offset = 0
            start = max(self._offset, size - _READ_BYTES)
            file.seek(start)
            tokens = _SEPARATOR.split(file.read(size - start))
        skipped = start > self._offset
        self._offset = size if len(tokens[-1]) > _TOKEN_BYTES else size - len(tokens[-1])
        yield from tokens[1:] if skipped else tokens

    def _take(self, token: bytes) -> None:
        marker = token.find(REPORT_MARKER.encode())
        if marker >= 0:
            text = token[marker + len(REPORT_MARKER) :]
            try:
                self._report = _Report.model_validate_json(text)
            except ValidationError:
                return  # not whole yet, or someone else's
        elif self._report is None and len(token) <= _TOKEN_BYTES:
            self._output.take(token.decode("utf-8", "replace"))


class _TrainerOutput:
    """The progress that the trainer prints for people."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.max_steps: int | None = None
        self.loss: float | None = None
        self.eta_seconds: float | None = None
        self._sure = False

    def take(self, text: str) -> None:
        """Read one state of a line."""
        if loss := _LOSS.search(text):
            step = _STEP.search(text)
            value = to_number(loss["loss"])
            if value is not None:
                self.loss = raw_loss(value, _NOT_FINITE.findall(text))
            self._take_step(to_count(step["step"]) if step else self.step)
        elif self.loss is None and (loss := _WHOLE_LOSS.search(text)):
            # The run was too short to log a loss per step. A run without any step reports 0.
            self.loss = to_number(loss["loss"]) or None
        elif bar := _BAR.match(text):
            self._take_bar(to_count(bar["step"]), to_count(bar["total"]), _seconds(bar["left"]))

    def _take_step(self, step: int | None) -> None:
        self.step = step
        if self.max_steps is not None and step is not None:
            self._sure = step <= self.max_steps
            if not self._sure:  # that bar was not the training's
                self.max_steps = self.eta_seconds = None

    def _take_bar(self, step: int | None, total: int | None, left: float | None) -> None:
        if step is None or not total:
            return
        if total != self.max_steps:
            if self._sure:
                return  # an evaluation
            self.max_steps = total
        # A bar starts at 0 after a resume too, and jumps to the step resumed from.
        if step > 0:
            self.step, self.eta_seconds = step, left


def _progress(source: _Report | _TrainerOutput) -> JobProgress:
    step, max_steps = source.step, source.max_steps
    return JobProgress(
        step=step,
        max_steps=max_steps,
        percent=round(min(100 * step / max_steps, 100), 1)
        if step is not None and max_steps
        else None,
        loss=source.loss,
        eta_seconds=source.eta_seconds,
    )


def _seconds(clock: str) -> float | None:
    """Seconds of tqdm's ``MM:SS`` or ``H:MM:SS``; None of its ``?`` and of anything else."""
    match = _CLOCK.fullmatch(clock)
    if match is None:
        return None
    hours, minutes, seconds = (
        float(part or 0) for part in match.group("hours", "minutes", "seconds")
    )
    return 3600 * hours + 60 * minutes + seconds
