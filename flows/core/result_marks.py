"""What was in a folder of results before a job wrote there: only what came after is the job's.

Oumi's trainers append to the file that an earlier job left, and an evaluation's folders stay. The
marks are made just before each launch and kept on the job's run, where any worker finds them.
"""

import hashlib
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from flows.core.models import Value
from flows.core.regular_files import open_regular_file

EVALUATION: Final = "*/task_result.json"
"""What `oumi evaluate` 0.9 writes below its output folder, one for each task."""
TRAINING: Final = "metrics_rank0000.jsonl"
"""What Oumi 0.9's trainers append to: a line for each log event; after a resume steps repeat."""

_SEEN_MAX: Final = 1000
_SPANS_MAX: Final = 50
_DIGEST_OF_BYTES: Final = 256
_DIGITS: Final = 12


class Span(Value):
    """The part of the training's file that one attempt writes.

    Attributes:
        start: Bytes that were there before.
        digest: Hash of the last of them: the file may be replaced by another.
        end: Where the attempt stopped; None: it may still write.
    """

    attempt: int
    start: int
    digest: str = ""
    end: int | None = None


class ResultMarks(Value):
    """What was in a folder before.

    Attributes:
        folder: The folder.
        spans: The parts of the training's file that are the job's, the first attempt's first.
        seen: The results of evaluations that were there, a hash of each.
        newest: When the newest of them was written, in ns; set where there were too many to keep.
    """

    folder: str = ""
    spans: list[Span] = Field(default_factory=list[Span])
    seen: list[str] = Field(default_factory=list[str])
    newest: int | None = None

    def next(self, attempt: int, *, goes_on: bool) -> "ResultMarks":
        """The marks for an attempt that is about to be launched. Blocking.

        Args:
            attempt: Its number.
            goes_on: Whether what the attempts before it left is its own, too.
        """
        before = [span for span in self.spans if span.attempt < attempt] if goes_on else []
        start, digest = _end_of(Path(self.folder) / TRAINING)
        # An attempt whose end was not seen wrote no further than here.
        before = [one if one.end is not None else _with_end(one, start) for one in before]
        spans = [*before, Span(attempt=attempt, start=start, digest=digest)]
        spans = spans[-_SPANS_MAX:]
        if before:
            return self.model_copy(update={"spans": spans})
        found = [_identify(path) for path in Path(self.folder).glob(EVALUATION)]
        if len(found) > _SEEN_MAX:
            newest = max(written_at for _, written_at in found)
            return ResultMarks(folder=self.folder, spans=spans, newest=newest)
        return ResultMarks(folder=self.folder, spans=spans, seen=sorted(one for one, _ in found))

    def with_end(self, attempt: int) -> "ResultMarks":
        """The marks once an attempt has ended, and writes no more. Blocking."""
        end, _ = _end_of(Path(self.folder) / TRAINING)
        spans = [_with_end(one, end) if one.attempt == attempt else one for one in self.spans]
        return self.model_copy(update={"spans": spans})

    def has(self, attempt: int) -> bool:
        """Whether they were made for an attempt already."""
        return any(span.attempt == attempt for span in self.spans)

    def parts(self) -> list[tuple[int, int | None]]:
        """The parts of the training's file that are the job's: their start and end. Blocking."""
        path = Path(self.folder) / TRAINING
        if any(_end_of(path, until=one.start) != (one.start, one.digest) for one in self.spans):
            return [(0, None)]  # another file is in its place: all of it was written since
        return [(one.start, one.end) for one in self.spans]

    def is_new(self, result: Path) -> bool:
        """Whether an evaluation's result was written since. Blocking."""
        identity, written_at = _identify(result)
        if self.newest is not None:
            return written_at > self.newest
        return identity not in self.seen


def marks_of(label: object, folder: str) -> ResultMarks | None:
    """The marks that a run's label has; None: it has none of this folder."""
    if not isinstance(label, str):
        return None
    try:
        marks = ResultMarks.model_validate_json(label)
    except ValidationError:
        return None
    return marks if marks.folder == folder else None


def _with_end(span: Span, end: int) -> Span:
    return span.model_copy(update={"end": max(end, span.start)})


def _end_of(path: Path, *, until: int | None = None) -> tuple[int, str]:
    """How long a file is, up to `until`, and a hash of its last bytes; (0, "") of none."""
    try:
        with open_regular_file(path) as file:
            size = file.seek(0, 2)
            end = size if until is None else min(size, until)
            file.seek(max(0, end - _DIGEST_OF_BYTES))
            last = file.read(min(end, _DIGEST_OF_BYTES))
    except OSError:
        return 0, ""
    return end, hashlib.sha256(last).hexdigest()[:_DIGITS] if last else ""


def _identify(path: Path) -> tuple[str, int]:
    """What tells a file from any that is written in its place, and when it was written, in ns."""
    try:
        known = path.stat()
    except OSError:
        return "", 0
    facts = f"{path}\n{known.st_ino}\n{known.st_size}\n{known.st_mtime_ns}"
    digest = hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()
    return digest[:_DIGITS], known.st_mtime_ns
