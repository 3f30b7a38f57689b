"""The output of SkyPilot jobs, kept in files here as it streams."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from flows.errors import OumiFlowsError

_MOMENT_SECONDS: Final = 2.0
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_KEY: Final = re.compile(r"^\(oumi-[0-9a-f]{32}-\d+, pid=\d+\) ", re.MULTILINE)
"""The launch key, which SkyPilot puts before each line of a job of that name."""


class LogSource(Protocol):
    """Where a job's output comes from."""

    def log(self, cluster_name: str, job_id: str) -> Iterator[str]:
        """A job's output from its beginning; goes on until the job has ended."""
        ...


class SkyLogs:
    """A file per job. Its first reader starts a thread that follows the job to its end.

    SkyPilot streams a log from its beginning only. What a file has already is skipped when the
    stream starts over, so a reader's offset means the same before and after a restart.
    """

    def __init__(self, source: LogSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._lock = threading.Lock()
        self._followers: dict[Path, threading.Thread] = {}
        self._complete: set[Path] = set()

    def read(self, cluster_name: str, job_id: str, *, offset: int, limit: int) -> bytes:
        """What there is from `offset` on; a reader that has all of it waits a moment for more."""
        path = self._folder / cluster_name / f"{job_id}.log"
        follower = self._follower(path, cluster_name, job_id)
        found = _read(path, offset, limit)
        if not found and follower is not None:
            follower.join(_MOMENT_SECONDS)
            found = _read(path, offset, limit)
        return found

    def _follower(self, path: Path, cluster_name: str, job_id: str) -> threading.Thread | None:
        """The thread that follows a log; None once all of the log is here."""
        with self._lock:
            if path in self._complete:
                return None
            follower = self._followers.get(path)
            if follower is None or not follower.is_alive():
                follower = threading.Thread(
                    target=self._copy,
                    args=(path, cluster_name, job_id),
                    name=str(path),
                    daemon=True,
                )
                self._followers[path] = follower
                follower.start()
            return follower

    def _copy(self, path: Path, cluster_name: str, job_id: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with path.open("ab", buffering=0) as file:
                skip = file.tell()
                for chunk in self._source.log(cluster_name, job_id):
                    data = _KEY.sub("", _COLOUR.sub("", chunk)).encode(errors="replace")
                    if skip < len(data):
                        file.write(data[skip:])
                    skip = max(0, skip - len(data))
        except (OumiFlowsError, OSError):
            return  # the next reader starts over
        with self._lock:
            self._complete.add(path)
            del self._followers[path]


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""
