"""The files of a job as they were found, before they are sorted into results."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple, Protocol

from flows.core.results.values import Output, OutputKind

FILES_MAX: Final = 50_000
"""Files of a job that are looked at."""
SKIPPED_FOLDERS: Final = frozenset(
    {".git", ".venv", "venv", "__pycache__", "node_modules", ".cache", ".oumi-flows"}
)
"""Folders that hold no results."""


class FileFact(NamedTuple):
    """A file; the time of its last change is in seconds since the epoch."""

    path: str
    size: int
    written_at: float


class Root(NamedTuple):
    """A folder of results.

    Attributes:
        folder: Absolute.
        files: The job's files in it.
        place: Folder below the target of a copy that its files go to; empty: the target itself.
        attempt: The one attempt that wrote them; None: it is not known.
    """

    folder: str
    files: Sequence[FileFact]
    place: str = ""
    attempt: int | None = None


class Listing(NamedTuple):
    """All files of a job.

    Attributes:
        roots: By folder.
        outputs: What its commands write, as absolute paths.
        notes: What is not in it.
    """

    roots: Sequence[Root]
    outputs: Sequence[Output]
    notes: Sequence[str] = ()

    def output_of(self, path: str) -> Output | None:
        """The output that a file belongs to; None: it is in no named one."""
        found = [one for one in self.outputs if is_within(path, one.path)]
        return max(found, key=lambda one: len(one.path), default=None)

    def kind_of(self, path: str) -> OutputKind:
        """What wrote a file."""
        output = self.output_of(path)
        return output.kind if output else OutputKind.OTHER


class Place(Protocol):
    """Where the files of a job are. Every call blocks."""

    def read(self, paths: Sequence[str], *, limit: int) -> dict[str, bytes]:
        """Read the first `limit` bytes of files; leave out those that cannot be read."""
        ...


def is_within(path: str, folder: str) -> bool:
    """Whether an absolute path is a folder or in it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def relative(path: str, folder: str) -> str:
    """A path below a folder, relative to it."""
    return str(PurePosixPath(path).relative_to(folder))
