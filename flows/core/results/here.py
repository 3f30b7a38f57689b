"""The files of a job on this machine. Blocking."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from flows.core.configs.checkpoints import COARSE_SECONDS
from flows.core.regular_files import open_regular_file
from flows.core.results.listing import (
    FILES_MAX,
    SKIPPED_FOLDERS,
    FileFact,
    Listing,
    Root,
    is_within,
)
from flows.core.results.outputs import Outputs
from flows.core.results.values import Output, ResultsRequest

_LOOKS_MAX: Final = 1_000_000
"""Files of a folder that are looked at, the job's own or not; some seconds."""
_LATE_SECONDS: Final = 5.0
"""How long after its end a job's last file may be written: file systems write late."""


class Here:
    """This machine's disks."""

    def read(self, paths: Sequence[str], *, limit: int) -> dict[str, bytes]:
        """Read the first bytes of files; leave out those that cannot be read."""
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                with open_regular_file(path) as file:
                    found[path] = file.read(limit)
            except (OSError, ValueError):
                continue
        return found


def list_here(wanted: ResultsRequest, outputs: Outputs, *, excluded: Path | None = None) -> Listing:
    """List the files of a job on this machine that changed since it began.

    Args:
        wanted: The job.
        outputs: What its commands write.
        excluded: A folder that has no results: our own.
    """
    walk = _Walk(since=wanted.began_at, until=None)
    roots = [root for output in outputs.outputs if (root := _root(output, outputs, walk))]
    if outputs.working_dir:
        # Others work in this folder, too: what changed after the job's end is theirs.
        walk_there = _Walk(since=wanted.began_at, until=wanted.ended_at, excluded=excluded)
        roots.append(_list_working_dir(wanted, outputs, walk_there))
        walk.skip(walk_there)
    return Listing(_merge(roots), outputs.outputs, walk.notes())


def _list_working_dir(wanted: ResultsRequest, outputs: Outputs, walk: "_Walk") -> Root:
    """List the files of the job's working folder that are in no output of its own."""
    known = [output.path for output in outputs.outputs]
    # Perhaps written a moment before the job began.
    known += [wanted.request.config_path] if wanted.request else []
    found = walk.files(Path(outputs.working_dir))
    files = [fact for fact in found if not any(is_within(fact.path, path) for path in known)]
    return Root(outputs.working_dir, files)


def _root(output: Output, outputs: Outputs, walk: "_Walk") -> Root | None:
    files = list(walk.files(Path(output.path)))
    if not files:
        return None
    if outputs.working_dir and is_within(output.path, outputs.working_dir):
        return Root(outputs.working_dir, files)
    folder = os.path.dirname(output.path) if output.is_file else output.path  # noqa: PTH120
    place = "" if len(outputs.outputs) == 1 and not outputs.working_dir else Path(folder).name
    return Root(folder, files, place)


def _merge(roots: Sequence[Root]) -> list[Root]:
    """One root for each folder, each file once."""
    merged: dict[str, Root] = {}
    for root in roots:
        known = merged.get(root.folder)
        files = {fact.path: fact for fact in [*(known.files if known else ()), *root.files]}
        merged[root.folder] = root._replace(files=list(files.values()))
    return list(merged.values())


class _Walk:
    """Walks folders without following links.

    Args:
        since: Leave out files that did not change since then; None: take all.
        until: Leave out files that changed after that.
        excluded: A folder to leave out.
    """

    def __init__(
        self, *, since: float | None, until: float | None, excluded: Path | None = None
    ) -> None:
        self._excluded = str(excluded)
        self._since = float("-inf") if since is None else since - COARSE_SECONDS
        self._until = float("inf") if until is None else until + _LATE_SECONDS
        self._older = self._links = 0
        self._room = FILES_MAX
        self._looks = _LOOKS_MAX

    def files(self, top: Path) -> Iterator[FileFact]:
        """List the regular files in a folder, or the file itself."""
        if top.is_file() and not top.is_symlink():
            yield from self._fact(top)
            return
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(
                one
                for one in folders
                if one not in SKIPPED_FOLDERS and f"{folder}/{one}" != self._excluded
            )
            for name in sorted(names):
                self._looks -= 1
                if min(self._room, self._looks) <= 0:
                    return
                yield from self._fact(Path(folder, name))

    def skip(self, other: "_Walk") -> None:
        """Count what another walk left out for its links and its room; old files are no results."""
        self._links += other._links
        self._room = min(self._room, other._room)
        self._looks = min(self._looks, other._looks)

    def notes(self) -> list[str]:
        """Describe what was left out."""
        notes: list[str] = []
        if self._older:
            notes.append(f"{self._older} files are older than the job and left out")
        if self._links:
            notes.append(f"{self._links} symbolic links are left out")
        if min(self._room, self._looks) <= 0:
            notes.append("there are more files than were looked at")
        return notes

    def _fact(self, path: Path) -> Iterator[FileFact]:
        try:
            known = path.lstat()
        except OSError:
            return
        if stat.S_ISLNK(known.st_mode):
            self._links += 1
        elif stat.S_ISREG(known.st_mode):
            # A file that was moved or unpacked keeps its time of writing.
            changed_at = max(known.st_mtime, known.st_ctime)
            if changed_at < self._since:
                self._older += 1
            elif changed_at <= self._until:
                self._room -= 1
                yield FileFact(str(path), known.st_size, known.st_mtime)
