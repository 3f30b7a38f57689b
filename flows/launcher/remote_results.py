"""Find the results of a job on its cluster."""

import asyncio
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.models import JobHandle
from flows.core.names import launch_key
from flows.core.results.describing import Found
from flows.core.results.listing import FileFact, Listing, Root, is_within
from flows.core.results.outputs import find_outputs
from flows.core.results.reading import read_recorded
from flows.core.results.values import Output, ResultsRequest
from flows.launcher.port import Launcher
from flows.launcher.remote_files import RemoteFiles, RemoteListing

_ATTEMPTS_MAX: Final = 10
"""Attempts whose folders are listed, the last ones."""


class RemoteFound(NamedTuple):
    """The results of a job on a cluster.

    Attributes:
        files: Reads and copies the files.
    """

    found: Found
    files: RemoteFiles


async def find_on_cluster(
    wanted: ResultsRequest, handle: JobHandle, launcher: Launcher, *, snapshots_dir: Path
) -> RemoteFound:
    """Find the results of a job on its cluster, those of its earlier attempts, too.

    Raises:
        CloudUnavailable: The files of this cloud cannot be read.
        ClusterNotFound: The cluster is gone, and its files with it.
        ClusterUnreachable: It does not answer.
    """
    outputs = await asyncio.to_thread(find_outputs, wanted, snapshots_dir)
    files = await launcher.files(handle, key=launch_key(wanted.job_id, wanted.attempt))
    first = (
        max(1, wanted.attempt - _ATTEMPTS_MAX + 1) if files.is_for_one_attempt else wanted.attempt
    )
    listings: list[tuple[int, RemoteListing]] = []
    for attempt in range(wanted.attempt, first - 1, -1):
        of_attempt = await launcher.files(handle, key=launch_key(wanted.job_id, attempt))
        named = [one.path for one in outputs.outputs] if attempt == wanted.attempt else []
        listed = await asyncio.to_thread(of_attempt.find, named, since=wanted.began_at)
        listings.append((attempt, listed))
    listing = _join(listings, outputs.outputs, wanted, knows_attempts=files.is_for_one_attempt)

    def find() -> Found:
        return Found(wanted.job_id, listing, files, lambda: read_recorded(wanted.log_paths))

    return RemoteFound(await asyncio.to_thread(find), files)


def _join(
    listings: Sequence[tuple[int, RemoteListing]],
    outputs: Sequence[Output],
    wanted: ResultsRequest,
    *,
    knows_attempts: bool,
) -> Listing:
    roots: list[Root] = []
    absolute: dict[str, Output] = {}
    notes: list[str] = []
    for attempt, listed in listings:
        if not listed.folder:
            continue
        named = [one.model_copy(update={"path": listed.absolute(one.path)}) for one in outputs]
        absolute |= {one.path: one for one in named}
        place = "" if attempt == wanted.attempt else f"attempt-{attempt}"
        roots += _roots(listed, named, place, attempt if knows_attempts else None)
        if not listed.is_whole:
            notes.append("there are more files than could be listed")
    if not roots:
        notes.append("the job has no folder there")
    return Listing(roots, list(absolute.values()), notes)


def _roots(
    listed: RemoteListing, outputs: Sequence[Output], place: str, attempt: int | None
) -> list[Root]:
    """The working folder, and the outputs outside of it."""
    inside = [one for one in listed.files if is_within(one.path, listed.folder)]
    roots = [Root(listed.folder, inside, place, attempt)]
    for output in outputs:
        if is_within(output.path, listed.folder):
            continue
        folder = posixpath.dirname(output.path) if output.is_file else output.path
        files: list[FileFact] = [one for one in listed.files if is_within(one.path, output.path)]
        if files:
            roots.append(Root(folder, files, posixpath.basename(folder), attempt))
    return roots
