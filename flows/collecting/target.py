"""The folder that results are copied to. Blocking."""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from flows.core.errors import Conflict, InvalidArgument
from flows.core.results.choosing import ChosenFile
from flows.core.results.manifest import STAGING, write_manifest
from flows.core.results.targets import checksum, conflict, final_path

_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Stopped(Exception):
    """The copy was cancelled."""


class Target:
    """A folder, and the part of it where files are until their checksums are proved.

    Args:
        into: Absolute.
        job_id: The job whose results they are.
        stop: Set to interrupt a long read.
    """

    def __init__(self, into: str, job_id: str, stop: threading.Event) -> None:
        self.folder = Path(os.path.realpath(into))
        self.staging = self.folder / STAGING / job_id
        self._job_id = job_id
        self._stop = stop

    @contextmanager
    def hold(self) -> Generator[None]:
        """Keep other copies of the same job out of the folder.

        Raises:
            Conflict: Another copy of this job writes to it.
            InvalidArgument: It is no folder, or nothing can be written to it.
        """
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.staging.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InvalidArgument(
                f"nothing can be written into {self.folder}: {error.strerror}",
                "Give a folder that the worker's account can write to",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise Conflict(
                f"another copy of job {self._job_id} writes into {self.folder}",
                "Wait for it, or cancel it; see list_jobs",
            ) from error
        try:
            yield
        finally:
            self._tidy()
            os.close(lock)

    def staging_path(self, file: ChosenFile) -> Path:
        """Where a file is until its checksum is proved."""
        return self.staging / file.target

    def final(self, file: ChosenFile) -> Path:
        """Where a file goes.

        Raises:
            InvalidArgument: A link leads out of the folder.
        """
        return final_path(self.folder, file)

    def size_of(self, file: ChosenFile) -> int:
        """How many bytes of a file are here, staged or final."""
        for path in (self.staging_path(file), self.folder / file.target):
            with suppress(OSError):
                return min(path.lstat().st_size, file.size)
        return 0

    def checksum(self, path: Path) -> str:
        """The SHA-256 of a file.

        Raises:
            OSError: It cannot be read.
            Stopped: The copy was cancelled.
        """

        def go_on() -> None:
            if self._stop.is_set():
                raise Stopped

        return checksum(path, go_on)

    def find_equal(self, files: Mapping[ChosenFile, str]) -> set[ChosenFile]:
        """Find the files that are there already.

        Args:
            files: Their checksums.

        Raises:
            Conflict: One is there with another content.
        """
        equal: set[ChosenFile] = set()
        for file, digest in files.items():
            path = self.final(file)
            if not os.path.lexists(path):
                continue
            if path.is_symlink() or not path.is_file() or self.checksum(path) != digest:
                raise conflict(path, file)
            equal.add(file)
        return equal

    def accept(self, file: ChosenFile, digest: str) -> bool:
        """Move a staged file to its place; False: its content is not that of the job.

        Raises:
            Conflict: A file appeared there meanwhile.
            OSError: It cannot be moved.
        """
        staged, final = self.staging_path(file), self.final(file)
        if not staged.is_file() or self.checksum(staged) != digest:
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._move(staged, self.final(file))
        except FileExistsError as error:
            raise Conflict(
                f"{final} appeared while it was copied; it was not overwritten",
                "Move it away and call again",
            ) from error
        return True

    def conclude(self, files: Mapping[ChosenFile, str]) -> Path:
        """Write the manifest, remove the staging folder; return the manifest's path."""
        manifest = write_manifest(
            self.folder, self._job_id, {file.target: digest for file, digest in files.items()}
        )
        shutil.rmtree(self.staging, ignore_errors=True)
        return manifest

    def _tidy(self) -> None:
        """Remove the staging folder if nothing is staged."""
        with suppress(OSError):
            if self.staging.exists():
                self.staging.rmdir()
            self.staging.with_suffix(".lock").unlink(missing_ok=True)
            self.staging.parent.rmdir()

    def _move(self, staged: Path, final: Path) -> None:
        """Move without overwriting."""
        try:
            os.link(staged, final)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(final):
                raise FileExistsError(final) from None
            staged.rename(final)
        else:
            staged.unlink()
