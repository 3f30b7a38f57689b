"""Compare the files of a Git repository with its last commit, without running Git; see git_files.

Files are compared as Git does without filters: a file is unchanged if the index has its size and
times, and a difference in line ends alone is no change.
"""

import hashlib
import io
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flows.core.git_files import BROKEN, IgnoreRules, Repository, read_index
from flows.core.regular_files import read_regular_file

if TYPE_CHECKING:
    from dulwich.index import IndexEntry
    from dulwich.object_store import DiskObjectStore
    from dulwich.objects import Blob, ObjectID

SECONDS: Final = 5.0
_LINES_BYTES: Final = 200_000
"""Larger files that changed are listed without their changes: `difflib` takes minutes for some."""
_WHOLE_BYTES: Final = 64_000_000
_REPOSITORY: Final = 0o160000
_SYMLINK: Final = 0o120000
_HASH: Final = re.compile(r"[0-9a-f]{40}")


class Head(NamedTuple):
    """The commit that is checked out.

    Attributes:
        commit: Its hash.
        branch: Its branch, or ``HEAD`` for none.
    """

    commit: str
    branch: str


class Changes(NamedTuple):
    """What is not committed.

    Attributes:
        diff: The changes of tracked files; empty if there are none.
        untracked: The first files that are neither tracked nor ignored, sorted.
    """

    diff: str
    untracked: list[str]


class OutOfTime(Exception):
    """The repository is too large to compare within the time limit."""


class GitChanges:
    """Compares a repository with its last commit.

    Args:
        repository: The repository.
        seconds: How long it may take.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._ends_at = clock() + seconds

    def head(self) -> Head | None:
        """The commit that is checked out; None if there is none or it cannot be read."""
        said = _read_text(self._repository.folder / "HEAD")
        name = said.removeprefix("ref: ")
        if name == said:
            return Head(said, "HEAD") if _HASH.fullmatch(said) else None
        for folder in (self._repository.folder, self._repository.common):
            commit = _read_text(folder / os.path.normpath(name))
            if _HASH.fullmatch(commit):
                break
        else:
            commit = self._packed_commit(name)
        return Head(commit, name.removeprefix("refs/heads/")) if commit else None

    def compare(self, head: Head, folder: Path, *, most_untracked: int) -> Changes:
        """Compare the files with `head`; list untracked files below `folder`, relative to it.

        Raises:
            OutOfTime: The comparison took too long.
            OSError: The repository is damaged or of an unknown kind.
        """
        from dulwich.object_store import DiskObjectStore

        try:
            index = read_index(self._repository)
            with closing(DiskObjectStore(str(self._repository.common / "objects"))) as store:
                parts = list(self._patches(store, head, index))
        except BROKEN as error:
            raise OSError(f"{self._repository.top} cannot be compared ({error!r})") from error
        untracked = self._untracked_files(
            folder, {os.fsdecode(name) for name in index}, most_untracked
        )
        return Changes(b"".join(parts).decode(errors="replace"), untracked)

    def _packed_commit(self, name: str) -> str:
        """The commit of a reference without a file of its own; empty if there is none."""
        from dulwich.refs import read_packed_refs

        try:
            path = self._repository.common / "packed-refs"
            content = read_regular_file(path, limit=_WHOLE_BYTES)
            # The object that a tag points to is on a line of its own.
            lines = [line for line in content.splitlines(keepends=True) if line[:1] != b"^"]
            found = {ref: commit for commit, ref in read_packed_refs(io.BytesIO(b"".join(lines)))}
        except BROKEN:
            return ""
        return next((c.decode() for ref, c in found.items() if os.fsdecode(ref) == name), "")

    def _patches(
        self, store: "DiskObjectStore", head: Head, index: "Mapping[bytes, IndexEntry | None]"
    ) -> Iterator[bytes]:
        """Make a patch for each tracked file that changed."""
        committed = self._committed(store, head)
        written_at = _time_of(self._repository.folder / "index")
        for name in sorted(committed.keys() | index.keys()):
            self._check_time()
            old, known = committed.get(name), index.get(name)
            if known is not None and _is_as_known(self._path(name), known, written_at):
                if old == (known.mode, known.sha):
                    continue
            elif _REPOSITORY in (old[0] if old else 0, known.mode if known else 0):
                continue  # a repository of its own
            yield from self._patch(store, name, old, is_tracked=name in index)

    def _committed(
        self, store: "DiskObjectStore", head: Head
    ) -> "dict[bytes, tuple[int, ObjectID]]":
        """The mode and blob of each file of the commit."""
        from dulwich.objects import Commit, ObjectID

        commit = store[ObjectID(head.commit.encode())]
        if not isinstance(commit, Commit):
            raise ValueError(f"{head.commit} is not a commit")
        found: dict[bytes, tuple[int, ObjectID]] = {}
        for entry in store.iter_tree_contents(commit.tree):
            self._check_time()
            found[entry.path] = (entry.mode, entry.sha)
        return found

    def _patch(
        self,
        store: "DiskObjectStore",
        name: bytes,
        old: "tuple[int, ObjectID] | None",
        *,
        is_tracked: bool,
    ) -> Iterator[bytes]:
        from dulwich.objects import Blob
        from dulwich.patch import write_blob_diff

        new = _read(self._path(name)) if is_tracked else None
        if new is not None and old is not None:
            mode, blob = new
            if mode == old[0] and old[1] in (blob.id, _with_line_feeds(blob).id):
                return
        before = None if old is None else store[old[1]]
        if before is not None and not isinstance(before, Blob):
            return
        sides = [before, new[1] if new else None]
        modes = [old[0] if old else None, new[0] if new else None]
        if any(side is not None and side.raw_length() > _LINES_BYTES for side in sides):
            ids = " ".join(side.id.decode() if side else "none" for side in sides)
            yield b"Large file " + name + f" differs: {ids}\n".encode()
            return
        patch = io.BytesIO()
        ends = [(name if side else None, m, side) for side, m in zip(sides, modes, strict=True)]
        write_blob_diff(patch, ends[0], ends[1])
        yield patch.getvalue()

    def _untracked_files(self, folder: Path, tracked: set[str], most: int) -> list[str]:
        rules = IgnoreRules(self._repository)
        start = folder.resolve().relative_to(self._repository.top).as_posix().removeprefix(".")
        found: list[str] = []
        for name in self._loose(start, tracked, rules):
            if len(found) == most:
                break
            found.append(name.removeprefix(f"{start}/" if start else ""))
        return found

    def _loose(self, folder: str, tracked: set[str], rules: IgnoreRules) -> Iterator[str]:
        """Files below a folder that are neither tracked nor ignored, in the order of names."""
        self._check_time()
        try:
            entries = list(os.scandir(self._repository.top / folder))
        except OSError:
            return
        folders = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        for entry in sorted(folders, key=lambda name: f"{name}/" if folders[name] else name):
            name = f"{folder}/{entry}" if folder else entry
            if entry == ".git" or name in tracked or rules.ignores(name, is_folder=folders[entry]):
                continue
            if not folders[entry]:
                yield name
            elif (self._repository.top / name / ".git").exists():
                yield f"{name}/"  # a repository of its own
            else:
                yield from self._loose(name, tracked, rules)

    def _path(self, name: bytes) -> Path:
        return self._repository.top / os.fsdecode(name)

    def _check_time(self) -> None:
        if self._clock() > self._ends_at:
            raise OutOfTime


def _is_as_known(path: Path, known: "IndexEntry", written_at: float) -> bool:
    """Whether a file has the size and times in the index, from before the index was written."""
    try:
        now = path.lstat()
    except (OSError, ValueError):
        return False
    if not isinstance(known.mtime, tuple):
        return False
    seconds, nanos = known.mtime
    is_same = (
        now.st_size == known.size
        and _mode(now) == known.mode
        and now.st_mtime_ns // 10**9 == seconds
        and nanos in (0, now.st_mtime_ns % 10**9)
    )
    return is_same and now.st_mtime < written_at


def _read_text(path: Path) -> str:
    try:
        return read_regular_file(path, limit=4096).decode(errors="replace").strip()
    except (OSError, ValueError):
        return ""


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> "tuple[int, Blob] | None":
    """Mode and content of a file as a commit has them; None if there is no such file."""
    from dulwich.objects import Blob

    try:
        status = path.lstat()
        mode = _mode(status)
        if mode == _SYMLINK:
            return mode, Blob.from_string(os.fsencode(path.readlink()))
        if status.st_size > _WHOLE_BYTES:
            facts = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
            return mode, Blob.from_string(facts.encode())
        return mode, Blob.from_string(read_regular_file(path, limit=_WHOLE_BYTES))
    except (OSError, ValueError):
        return None


def _mode(status: os.stat_result) -> int:
    """The mode of a file in a commit."""
    if stat.S_ISLNK(status.st_mode):
        return _SYMLINK
    return 0o100755 if status.st_mode & 0o100 else 0o100644


def _with_line_feeds(blob: "Blob") -> "Blob":
    from dulwich.objects import Blob

    return Blob.from_string(blob.data.replace(b"\r\n", b"\n"))
