"""Record the content of a folder of results before a job, to tell the job's own results from it.

Oumi's trainers append to the file of an earlier job, and folders of evaluations stay. The marks
are made just before each launch and kept on the job's run, where any worker finds them.
"""

import hashlib
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from flows.core.models import Value
from flows.core.regular_files import open_regular_file

EVALUATION: Final = "*/task_result.json"
"""Files that `oumi evaluate` 0.9 writes below its output folder, one per task."""
TRAINING: Final = "metrics_rank0000.jsonl"
"""File of Oumi 0.9's trainers: one line per log event; after a resume steps repeat."""

_SEEN_MAX: Final = 1000
_SPANS_MAX: Final = 50
_DIGEST_OF_BYTES: Final = 256
_DIGITS: Final = 12


class Span(Value):
    """The part of the training's file that one attempt writes.

    Attributes:
        start: Bytes that were there before.
        digest: Hash of the last of them, to detect that the file was replaced.
        end: Where the attempt stopped; None: it may still write.
    """

    attempt: int
    start: int
    digest: str = ""
    end: int | None = None


class ResultMarks(Value):
    """The content of a folder before a job.

    Attributes:
        folder: The folder.
        spans: The job's parts of the training's file, the first attempt's first.
        seen: A hash of each result of an evaluation that was there.
        newest: When the newest of them was written, in ns; set if there were too many to keep.
    """

    folder: str = ""
    spans: list[Span] = Field(default_factory=list[Span])
    seen: list[str] = Field(default_factory=list[str])
    newest: int | None = None

    def next(self, attempt: int, *, goes_on: bool) -> "ResultMarks":
        """Make the marks for an attempt just before its launch. Blocking.

        Args:
            attempt: Its number.
            goes_on: Whether the results of earlier attempts are its own, too.
        """
        before = [span for span in self.spans if span.attempt < attempt] if goes_on else []
        start, digest = _end_of(Path(self.folder) / TRAINING)
        # An attempt whose end was not observed stopped writing here.
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
        """Update the marks once an attempt has ended. Blocking."""
        end, _ = _end_of(Path(self.folder) / TRAINING)
        spans = [_with_end(one, end) if one.attempt == attempt else one for one in self.spans]
        return self.model_copy(update={"spans": spans})

    def has(self, attempt: int) -> bool:
        """Whether the marks for an attempt exist."""
        return any(span.attempt == attempt for span in self.spans)

    def parts(self) -> list[tuple[int, int | None]]:
        """The start and end of each of the job's parts of the training's file. Blocking."""
        path = Path(self.folder) / TRAINING
        if any(_end_of(path, until=one.start) != (one.start, one.digest) for one in self.spans):
            return [(0, None)]  # the file was replaced, so all of it is the job's
        return [(one.start, one.end) for one in self.spans]

    def is_new(self, result: Path) -> bool:
        """Whether an evaluation's result was written after the marks were made. Blocking."""
        identity, written_at = _identify(result)
        if self.newest is not None:
            return written_at > self.newest
        return identity not in self.seen


def marks_of(label: object, folder: str) -> ResultMarks | None:
    """Read the marks of a run's label; None if it has none for this folder."""
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
    """The length of a file, up to `until`, and a hash of its last bytes; (0, "") if missing."""
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
    """A hash that identifies this version of a file, and when it was written, in ns."""
    try:
        known = path.stat()
    except OSError:
        return "", 0
    facts = f"{path}\n{known.st_ino}\n{known.st_size}\n{known.st_mtime_ns}"
    digest = hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()
    return digest[:_DIGITS], known.st_mtime_ns
