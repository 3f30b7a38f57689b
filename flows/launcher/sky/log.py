"""The output of SkyPilot jobs, kept in files here as it streams."""

import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.foreign_errors import without_colours
from flows.core.private_files import make_private, open_private
from flows.launcher.port import ASKS_AGAIN
from flows.launcher.sky.values import LAUNCH_KEY

_MOMENT_SECONDS: Final = 2.0
_REST_SECONDS: Final = 10.0
"""How long a reader waits for the rest of the log of a job that has ended."""
_LOOK_SECONDS: Final = 0.1
_KEY: Final = re.compile(rf"^\({LAUNCH_KEY.pattern}, pid=\d+\) ")
"""The launch key, which SkyPilot puts before each line of a job of that name."""
_OF_A_PROCESS: Final = re.compile(r"^\([^()\n]*\bpid=\d+[^()\n]*\) ")
"""What SkyPilot puts before each line of a job's processes."""

# What SkyPilot says of the log itself (skypilot 0.12, sky/skylet/log_lib.py).
_END: Final = re.compile(
    r"(?:^|\x1b\[32m)✓ Job finished \(status: \w+\)\."
    r"|(?:^|\x1b\[31m)ERROR: Logs for job \d+ \(status: \w+\) does not exist\."
)
_ASIDE: Final = re.compile(r"^(?:INFO: Waiting \d+s for the logs to be|ERROR: Logs for job \d+ )")


class LogSource(Protocol):
    """Where a job's output comes from."""

    def log(self, cluster_name: str, job_id: str) -> Iterator[str]:
        """Stream a job's output from its beginning until the job has ended."""
        ...


class SkyLogs:
    """A file per job. Its first reader starts a thread that copies the output until the job ends.

    SkyPilot streams a log from its beginning only. When the stream starts over, the part that the
    file has already is skipped, so a reader's offset means the same before and after a restart. A
    stream also ends with its connection; only SkyPilot's last line shows that the log is complete.
    """

    def __init__(self, source: LogSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._lock = threading.Lock()
        self._followers: dict[Path, threading.Thread] = {}
        self._complete: set[Path] = set()

    def read(
        self,
        cluster_name: str,
        job_id: str,
        *,
        name: str,
        offset: int,
        limit: int,
        has_ended: bool,
    ) -> bytes:
        """Read the output from `offset` on; at the end of the file, wait a moment for more.

        Args:
            cluster_name: The cluster.
            job_id: The job. A new cluster of the same name counts from 1 again.
            name: Its name there, which distinguishes it from an earlier job of the same id.
            offset: From where on.
            limit: How many bytes at most.
            has_ended: Whether the job has ended: then this waits longer for the rest of its log.

        Raises:
            ClusterUnreachable: The job has ended and the rest of its log is not available now.
        """
        own_name = name if LAUNCH_KEY.fullmatch(name) else job_id
        path = self._folder / cluster_name / f"{own_name}.log"
        deadline = time.monotonic() + (_REST_SECONDS if has_ended else _MOMENT_SECONDS)
        follower = self._follower(path, cluster_name, job_id)
        while not (found := _read(path, offset, limit)):
            if follower is None:
                return b""
            follower.join(_LOOK_SECONDS)
            if not follower.is_alive():
                break
            if time.monotonic() > deadline:
                break
        with self._lock:
            is_complete = path in self._complete
        found = found or _read(path, offset, limit)
        if found or is_complete or not has_ended:
            return found
        raise ClusterUnreachable(
            f"the rest of the log of job {job_id} of {cluster_name} is not available yet",
            ASKS_AGAIN,
        )

    def _follower(self, path: Path, cluster_name: str, job_id: str) -> threading.Thread | None:
        """Find or start the thread that copies a log; None once the copy is complete."""
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
        make_private(path.parent)
        try:
            with open_private(path, "ab") as file:
                skip = file.tell()
                for line in _lines(self._source.log(cluster_name, job_id)):
                    data = line.encode(errors="replace")
                    if skip < len(data):
                        file.write(data[skip:])
                    skip = max(0, skip - len(data))
        except (OumiFlowsError, OSError):
            return  # the next reader starts over
        with self._lock:
            self._complete.add(path)
            del self._followers[path]


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a job, the same lines every time its log is streamed.

    Lines that no process of the job has written come together with the next line of a process: at
    the end of a broken stream they are about the break.

    Raises:
        ClusterUnreachable: The stream ended before the log did.
    """
    held = ""
    for chunk in stream:
        end = _END.search(chunk)
        before = chunk if end is None else chunk[: end.start()]
        line = without_colours(before)
        if not _ASIDE.match(line):
            held += _KEY.sub("", line)
        if end is not None or _OF_A_PROCESS.match(line):
            if held:
                yield held
            held = ""
        if end is not None:
            return
    raise ClusterUnreachable("the stream of a log broke", ASKS_AGAIN)


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""
