"""Where results are copied from: a disk of this machine, or a cluster."""

import asyncio
import os
import shutil
import signal
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from flows.collecting.target import Stopped, Target
from flows.core.errors import CloudUnavailable, ClusterUnreachable, LaunchFailed
from flows.core.results.choosing import ChosenFile
from flows.launcher.port import ASKS_AGAIN
from flows.launcher.remote_files import RemoteFiles
from flows.launcher.slurm.ssh import dies_with_us

_CHUNK: Final = 2**22
_AT_ONCE: Final = 200
_BYTES_AT_ONCE: Final = 2_000_000_000
"""Bytes whose checksums one call to a cluster computes."""
_BROKEN: Final = frozenset({10, 12, 30, 35, 255})
"""Exit codes of rsync 3 when the connection broke or was silent."""
_INCOMPLETE: Final = frozenset({23, 24})
"""Exit codes of rsync 3 when some files could not be read; their checksums show which."""
_ERROR_BYTES: Final = 20_000


class Source(Protocol):
    """Where results are."""

    async def checksums(self, files: Sequence[ChosenFile]) -> dict[ChosenFile, str]:
        """Compute the SHA-256 of files; leave out those that are gone."""
        ...

    async def copy(self, files: Sequence[ChosenFile], target: Target) -> None:
        """Copy files to where the target stages them; continue what was copied before."""
        ...


class LocalSource:
    """A disk of this machine.

    Args:
        stop: Set to interrupt a long copy.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    async def checksums(self, files: Sequence[ChosenFile]) -> dict[ChosenFile, str]:
        """Compute the SHA-256 of files; leave out those that are gone."""
        return await asyncio.to_thread(self._checksums, files)

    async def copy(self, files: Sequence[ChosenFile], target: Target) -> None:
        """Copy files; a part that is there already is not copied again."""
        await asyncio.to_thread(self._copy_all, files, target)

    def _checksums(self, files: Sequence[ChosenFile]) -> dict[ChosenFile, str]:
        reader = Target("/", "", self._stop)
        found: dict[ChosenFile, str] = {}
        for file in files:
            with suppress(FileNotFoundError):
                found[file] = reader.checksum(Path(file.path))
        return found

    def _copy_all(self, files: Sequence[ChosenFile], target: Target) -> None:
        for file in files:
            staged = target.staging_path(file)
            staged.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self._copy(Path(file.path), staged)

    def _copy(self, source: Path, staged: Path) -> None:
        with source.open("rb") as reader, staged.open("ab") as writer:
            size = os.fstat(reader.fileno()).st_size
            if writer.tell() >= size:  # it was not that file, or its checksum was wrong
                writer.truncate(0)
            reader.seek(writer.tell())
            while chunk := reader.read(_CHUNK):
                if self._stop.is_set():
                    raise Stopped
                writer.write(chunk)
        shutil.copystat(source, staged)


class ClusterSource:
    """A cluster that ssh reaches.

    Args:
        files: The job's files there.
    """

    def __init__(self, files: RemoteFiles) -> None:
        self._files = files

    async def checksums(self, files: Sequence[ChosenFile]) -> dict[ChosenFile, str]:
        """Compute the SHA-256 of files there; leave out those that are gone."""
        found: dict[ChosenFile, str] = {}
        for part in _parts(files):
            paths = [file.path for file in part]
            digests = await asyncio.to_thread(self._files.checksums, paths)
            found |= {file: digests[file.path] for file in part if file.path in digests}
        return found

    async def copy(self, files: Sequence[ChosenFile], target: Target) -> None:
        """Copy files with rsync, which sends only what is missing of a file.

        Raises:
            ClusterUnreachable: The connection broke.
            CloudUnavailable: There is no rsync here or there.
            LaunchFailed: rsync refused to copy.
        """
        for (folder, place), sources in _by_folder(files).items():
            staged = target.staging / place
            staged.mkdir(parents=True, exist_ok=True)
            names = b"".join(os.fsencode(source) + b"\0" for source in sources)
            await self._rsync(self._files.copy_command(folder, str(staged)), names)

    async def _rsync(self, command: Sequence[str], names: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *dies_with_us(),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _no_rsync("the worker's machine") from error
        try:
            _, errors = await process.communicate(names)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if process.returncode and process.returncode not in _INCOMPLETE:
            raise self._failure(process.returncode, errors[-_ERROR_BYTES:])

    def _failure(
        self, code: int, errors: bytes
    ) -> ClusterUnreachable | CloudUnavailable | LaunchFailed:
        address = self._files.node.address
        lines = errors.decode(errors="replace").strip().splitlines()
        why = next((line for line in lines if line.strip()), f"exit code {code}")[:300]
        if "not found" in why and "rsync" in why:
            return _no_rsync(address)
        if code in _BROKEN or code < 0:
            return ClusterUnreachable(f"the copy from {address} broke off: {why}", ASKS_AGAIN)
        return LaunchFailed(
            f"rsync could not copy from {address}: {why}", "Correct the cause and call again"
        )


def _no_rsync(where: str) -> CloudUnavailable:
    return CloudUnavailable(
        f"rsync is not installed on {where}",
        "Install it there, or copy the paths of get_job_results by other means",
    )


def _parts(files: Sequence[ChosenFile]) -> list[list[ChosenFile]]:
    """Split files into parts of bounded size."""
    parts: list[list[ChosenFile]] = [[]]
    for file in files:
        size = sum(one.size for one in parts[-1])
        if parts[-1] and (len(parts[-1]) >= _AT_ONCE or size + file.size > _BYTES_AT_ONCE):
            parts.append([])
        parts[-1].append(file)
    return [part for part in parts if part]


def _by_folder(files: Sequence[ChosenFile]) -> Mapping[tuple[str, str], list[str]]:
    """The relative paths of files, by their folder there and its place in the target."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        place = file.target.removesuffix(file.source).rstrip("/")
        found[file.folder, place].append(file.source)
    return found
