"""The engine's folder: records, secrets, logs and the lock that orders its changes."""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from flows.core.errors import EngineUnavailable
from flows.core.names import WORK_POOL
from flows.core.private_files import close_files, make_private, write_private
from flows.core.server_record import SERVER_RECORD
from flows.core.settings import Settings
from mcp_server.engine.values import Connection

MIN_FREE_BYTES: Final = 64 * 2**20
"""A first start writes about 25 MB (Prefect 3.8.8: two UIs and an empty database)."""

LOW_SPACE_BYTES: Final = 2**30
"""Less than this and a training job is likely to fill the disk."""

LOG_ROTATE_BYTES: Final = 10 * 2**20
_LOCK_POLL_SECONDS: Final = 0.05
_TAIL_BYTES: Final = 8192
_WORDS_LINES: Final = 3
_ERROR_LINE: Final = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit)\b")

Record = TypeVar("Record", bound=BaseModel)


class EngineFiles:
    """Names and access rules of everything in the engine's folder.

    Args:
        settings: Where the folder is.
        server: The Prefect server elsewhere that a person named; None: the embedded one. Each
            server has a worker, and each pool there a record of what was applied for it.
    """

    def __init__(self, settings: Settings, *, server: Connection | None = None) -> None:
        # One folder is one engine, under any of its names.
        folder = settings.engine_dir.resolve()
        self.home = settings.home
        self.folder = folder
        self.key = f"-{short_hash(server.api_url)}" if server else ""
        self.server_record = folder / SERVER_RECORD
        self.worker_record = folder / f"worker{self.key}.json"
        pool = settings.work_pool
        pool_key = "" if pool == WORK_POOL else f"-{short_hash(pool)}"
        self.deployed_record = folder / f"deployed{self.key}{pool_key}.json"
        self.stopped = folder / "stopped"
        """There while a person wants the embedded engine to be down."""
        self.auth = folder / "auth"
        self.database = folder / "prefect.db"
        self.ui = folder / "ui"
        self.prefect_home = folder / "prefect"
        self.server_log = folder / "server.log"
        self.worker_log = folder / f"worker{self.key}.log"
        self.deploy_log = folder / "deploy.log"
        self.rendered = folder / "prefect.yaml"

    def prepare(self) -> None:
        """Create the folder, readable by its owner alone, and check that it has room.

        Raises:
            EngineUnavailable: It cannot be made or written, or the disk is full.
        """
        with self.explain_errors():
            for path in (self.home, self.folder, self.prefect_home):
                make_private(path)
            self.folder.chmod(0o700)
            # SQLite gives what it makes beside the database the database's own mode.
            close_files(self.folder)
            if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def explain_errors(self) -> Generator[None]:
        """Turn a failure to read or write here into an error that says what to do."""
        try:
            yield
        except OSError as error:
            path = error.filename or self.folder
            reason = error.strerror or str(error)
            raise EngineUnavailable(
                f"The engine cannot use {path}: {reason}",
                _free_space(self.folder)
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "Make it writable, or set OUMI_FLOWS_HOME to a folder that is",
            ) from error

    @contextmanager
    def lock(self, *, timeout: float) -> Generator[None]:
        """Hold the right to start, stop and record processes; it ends with this process.

        Raises:
            EngineUnavailable: Another process held it for `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self.explain_errors():
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                try:
                    with self.explain_errors():
                        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except EngineUnavailable as error:
                    if not isinstance(error.__cause__, BlockingIOError):
                        raise
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"Another process has been starting or stopping the engine in "
                        f"{self.folder} for {timeout:g} s",
                        "Wait for it or end it; `oumi-flows doctor` shows what runs",
                    )
                time.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(fd)

    def read(self, path: Path, kind: type[Record]) -> Record | None:
        """Read the record in `path`; None if it is absent or invalid."""
        try:
            return kind.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, path: Path, record: BaseModel) -> None:
        """Replace the record in `path`; readers see the old one or the new one."""
        with self.explain_errors():
            write_private(path, record.model_dump_json(indent=2))

    def read_auth(self) -> str | None:
        """The embedded server's ``user:password``, if it has one yet."""
        with suppress(FileNotFoundError):
            return self.auth.read_text().strip() or None
        return None

    def ensure_auth(self, *, renew: bool = False) -> str:
        """The embedded server's ``user:password``, drawn on first use and on `renew`."""
        known = self.read_auth()
        if known is not None and not renew:
            return known
        drawn = f"oumi:{secrets.token_urlsafe(24)}"
        with self.explain_errors():
            write_private(self.auth, f"{drawn}\n")
        return drawn

    def begin_log(self, path: Path) -> int:
        """Make room for the log of a new start; return the offset at which it begins."""
        with self.explain_errors():
            if path.exists() and path.stat().st_size > LOG_ROTATE_BYTES:
                path.replace(path.with_suffix(".log.1"))
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            return path.stat().st_size


def last_words(path: Path, *, since: int = 0) -> str:
    """The last lines of a log after offset `since`: the last error line, if there is one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    # A traceback's own lines are indented; the error's line is not.
    lines = [line for line in text.splitlines() if line.strip() and not line[0].isspace()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return "\n".join(errors[-1:] or lines[-_WORDS_LINES:])


def short_hash(text: str) -> str:
    """A few characters that identify `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _free_space(folder: Path) -> str:
    return (
        f"Free {MIN_FREE_BYTES // 2**20} MB on the disk of {folder}, or set OUMI_FLOWS_HOME to a "
        "folder on another one"
    )
