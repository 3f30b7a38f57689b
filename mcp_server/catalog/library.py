"""Oumi's own configs for the installed version: fetched, or from a folder that a person names."""

import fcntl
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from flows.core.configs.library import fetched_library, installed_oumi
from flows.core.errors import ConfigNotFound, Conflict, OumiFlowsError
from flows.core.models import Value
from flows.core.private_files import make_private
from flows.core.settings import Settings
from mcp_server.catalog.folder import MAX_FILES

OFF: Final = "off"
"""The value of ``OUMI_FLOWS_CONFIGS_URL`` that turns fetching off."""

_NEW: Final = ".new-"
_RETRY_SECONDS: Final = 600.0
_RELEASE: Final = re.compile(r"\d+(\.\d+)*(\.?(a|b|rc|post)\d+)?")


class LibraryState(StrEnum):
    """State of Oumi's library."""

    FOLDER = "folder"
    READY = "ready"
    FETCHING = "fetching"
    FAILED = "failed"
    ABSENT = "absent"
    OFF = "off"


class LibraryStatus(Value):
    """State of Oumi's library, and its folder."""

    state: LibraryState
    message: str
    path: str | None = None


class LibraryLimits(Value):
    """What no archive of Oumi exceeds.

    Attributes:
        archive_bytes: Size of the archive; that of Oumi 0.9 has 4 MB.
        unpacked_bytes: Far more than Oumi's repository has.
        files: Number of configs.
    """

    archive_bytes: int = 100_000_000
    unpacked_bytes: int = 500_000_000
    files: int = MAX_FILES


_LIMITS: Final = LibraryLimits()


class OumiLibrary:
    """Finds and fetches Oumi's configs. Only `fetch` and the thread of `refresh` use the network.

    Args:
        settings: The folders and the address of the library.
        oumi_version: The installed Oumi; empty: none.
        now: The time, in seconds.
        limits: What an archive may have.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        oumi_version: str | None = None,
        now: Callable[[], float] = time.time,
        limits: LibraryLimits = _LIMITS,
    ) -> None:
        self._settings = settings
        self.oumi_version = installed_oumi() if oumi_version is None else oumi_version
        self._now = now
        self._limits = limits
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address of the archive."""
        return self._settings.configs_url.replace("{version}", self.oumi_version)

    def folder(self) -> Path | None:
        """The folder of Oumi's configs; None: it is missing."""
        if self._settings.configs_dir is not None:
            return self._settings.configs_dir
        return self._fetched_folder if self._fetched_folder.is_dir() else None

    def status(self) -> LibraryStatus:
        """Return the state of the library."""
        if (chosen := self._settings.configs_dir) is not None:
            return _describe_chosen(chosen)
        if self._fetched_folder.is_dir():
            message = f"Oumi {self.oumi_version}, fetched from {self.url}"
            return LibraryStatus(
                state=LibraryState.READY, message=message, path=str(self._fetched_folder)
            )
        if why_not := self._why_not():
            return LibraryStatus(state=LibraryState.OFF, message=why_not)
        if self._thread is not None and self._thread.is_alive():
            message = f"Being fetched from {self.url}; look again in some seconds"
            return LibraryStatus(state=LibraryState.FETCHING, message=message)
        if failure := self._failure():
            return LibraryStatus(state=LibraryState.FAILED, message=failure[1])
        return LibraryStatus(state=LibraryState.ABSENT, message="Not fetched yet")

    def refresh(self) -> None:
        """Fetch it in the background, if it is enabled, missing and did not just fail."""
        if self.folder() is not None or self._why_not():
            return
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            failure = self._failure()
            if running or (failure and self._now() - failure[0] < _RETRY_SECONDS):
                return
            # A daemon: a process that ends does not wait for it, and the next process continues.
            self._thread = threading.Thread(
                target=self._fetch_quietly, name="oumi-library", daemon=True
            )
            self._thread.start()

    def fetch(self) -> Path:
        """Fetch it now, even if it exists; return the folder.

        Raises:
            ConfigNotFound: It cannot be fetched, or the file is no archive of Oumi.
            OperationTimeout: It took too long.
            Conflict: Another process is fetching it.
        """
        if why_not := self._why_not():
            raise ConfigNotFound(
                f"Oumi's library is not fetched: {why_not}", "Set OUMI_FLOWS_CONFIGS_URL"
            )
        home = self._settings.catalog_dir
        try:
            make_private(home)
            with _only_one(home / "lock"):
                self._fetch_into(home)
                self._failure_file.unlink(missing_ok=True)
        except Conflict:
            raise
        except OumiFlowsError as error:
            self._note_failure(error.what)
            raise
        except OSError as error:
            what = f"Oumi's library cannot be kept in {home} ({error.strerror})"
            self._note_failure(what)
            raise ConfigNotFound(what, "Free space there, or set OUMI_FLOWS_HOME") from error
        return self._fetched_folder

    @property
    def _fetched_folder(self) -> Path:
        return fetched_library(self._settings, self.oumi_version)

    @property
    def _failure_file(self) -> Path:
        return self._settings.catalog_dir / f"oumi-{self.oumi_version}.failed.json"

    def _why_not(self) -> str:
        if self._settings.configs_dir is not None:
            return "OUMI_FLOWS_CONFIGS_DIR names a folder"
        if self._settings.configs_url.lower() == OFF:
            return "OUMI_FLOWS_CONFIGS_URL is off"
        if not _RELEASE.fullmatch(self.oumi_version):
            return f"the installed Oumi ({self.oumi_version or 'none'}) is no release"
        return ""

    def _fetch_into(self, home: Path) -> None:
        # Imported here: a server that has the library never needs them.
        from mcp_server.catalog.archive import extract_configs
        from mcp_server.catalog.download import download

        for left in home.glob(f"{_NEW}*"):
            # A killed process left it: this process has the lock.
            shutil.rmtree(left, ignore_errors=True)
        archive = home / f"oumi-{self.oumi_version}.tar.gz"
        fetched = download(
            self.url,
            archive,
            timeout_seconds=self._settings.configs_timeout_seconds,
            max_bytes=self._limits.archive_bytes,
        )
        try:
            wanted = self._settings.configs_sha256
            if wanted and wanted.lower() != fetched.sha256:
                raise ConfigNotFound(
                    f"{self.url} has the SHA-256 {fetched.sha256}, not OUMI_FLOWS_CONFIGS_SHA256",
                    "Set it to the archive's, or unset it",
                )
            with tempfile.TemporaryDirectory(dir=home, prefix=_NEW) as temporary:
                new = Path(temporary, "library")
                new.mkdir()
                count = extract_configs(
                    archive,
                    new / "configs",
                    max_files=self._limits.files,
                    max_bytes=self._limits.unpacked_bytes,
                )
                record = fetched.model_dump() | {
                    "configs": count,
                    "fetched_at": datetime.now(UTC).isoformat(),
                }
                (new / "source.json").write_text(json.dumps(record, indent=2) + "\n")
                _swap(new, self._fetched_folder.parent, Path(temporary, "old"))
        finally:
            archive.unlink(missing_ok=True)

    def _fetch_quietly(self) -> None:
        try:
            self.fetch()
        except OumiFlowsError:
            # `status` reports it; a search never fails because of it.
            return

    def _failure(self) -> tuple[float, str] | None:
        try:
            found = json.loads(self._failure_file.read_text(encoding="utf-8"))
            if found["url"] == self.url:
                return float(found["at"]), str(found["message"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _note_failure(self, message: str) -> None:
        note = {"at": self._now(), "url": self.url, "message": message}
        try:
            self._failure_file.write_text(json.dumps(note) + "\n", encoding="utf-8")
        except OSError:
            return


def _describe_chosen(folder: Path) -> LibraryStatus:
    there = folder.is_dir()
    return LibraryStatus(
        state=LibraryState.FOLDER if there else LibraryState.ABSENT,
        message=f"OUMI_FLOWS_CONFIGS_DIR{'' if there else ', which does not exist'}",
        path=str(folder),
    )


def _swap(new: Path, target: Path, old: Path) -> None:
    """Replace `target` by `new`, so that a complete folder is there before and after."""
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _only_one(path: Path) -> Generator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "Another process is fetching Oumi's library", "Wait some seconds"
            ) from error
        yield
    finally:
        os.close(descriptor)
