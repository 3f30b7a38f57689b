"""The worker of this machine: one process and its record."""

import socket
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

from flows.core.errors import EngineUnavailable
from flows.core.live_processes import ProcessRecord
from flows.core.models import Value
from flows.core.settings import Settings
from mcp_server.engine.environment import worker_environment
from mcp_server.engine.files import EngineFiles, last_words, short_hash
from mcp_server.engine.processes import find_process, spawn_detached, stop_process
from mcp_server.engine.rest import Rest
from mcp_server.engine.values import Connection
from oumi_flows import python_command

_GRACE_SECONDS: Final = 10.0
_FREE_STARTS: Final = 3
_REST_SECONDS: Final = 30.0
_WARM_LINE: Final = b"Oumi is loaded."


class WorkerRecord(Value):
    """A worker's process, and the settings it started with."""

    process: ProcessRecord
    server: str
    version: str
    started: float = Field(description="When, in seconds since 1970.")
    failures: int = Field(description="Failed starts in a row before this one.")
    stopped: bool = Field(default=False, description="Whether we ended it, on purpose.")
    folder: str = Field(default="", description="Path of the engine's folder it was started for.")


class _Heartbeat(BaseModel):
    name: str
    last_heartbeat_time: AwareDatetime


_HEARTBEATS: Final = TypeAdapter(list[_Heartbeat])


class Worker:
    """Starts, finds and stops the worker. The caller holds the lock for what changes it.

    Args:
        files: Where its record and log are.
        settings: Its pool, and what it inherits of ours.
        environ: What else it inherits.
        kind: Prefect's name of the worker type.
        version: The version of oumi-flows that is installed.
    """

    def __init__(
        self,
        files: EngineFiles,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        kind: str,
        version: str,
    ) -> None:
        self._files = files
        self._settings = settings
        self._environ = environ
        self._kind = kind
        self._version = version
        host = socket.gethostname().split(".")[0]
        self.name = f"{host}-{short_hash(str(files.folder))}{files.key}"

    @property
    def record(self) -> WorkerRecord | None:
        """The worker that was last started, alive or not; None for that of a copied folder."""
        record = self._files.read(self._files.worker_record, WorkerRecord)
        if record is None:
            return None
        is_another = record.process.is_alive and not record.process.works_in(self._files.folder)
        return None if is_another else record

    def serves(self, connection: Connection) -> bool:
        """Whether a worker lives and was started for the server at `connection`."""
        record = self.record
        return (
            record is not None
            and record.process.is_alive
            and record.server == _fingerprint(connection)
            and record.folder in ("", str(self._files.folder))
        )

    def start(self, connection: Connection) -> None:
        """Start the worker, and stop one that serves another server or lost its record.

        Raises:
            EngineUnavailable: It could not be started, or the old one could not be stopped.
        """
        failures = self._failures()
        self.stop()
        offset = self._files.begin_log(self._files.worker_log)
        process = spawn_detached(
            python_command("prefect", *self._arguments()),
            env=worker_environment(connection, self._files, self._environ, self._settings),
            cwd=self._files.folder,
            log=self._files.worker_log,
            log_offset=offset,
        )
        self._files.write(
            self._files.worker_record,
            WorkerRecord(
                process=process,
                server=_fingerprint(connection),
                version=self._version,
                started=time.time(),
                failures=failures,
                folder=str(self._files.folder),
            ),
        )

    def should_rest(self) -> bool:
        """Whether its last starts failed, so that the next should wait a while.

        A start costs 10 CPU seconds, and every client's look at the engine would spend them.
        """
        record = self.record
        return (
            record is not None
            and self._failures() >= _FREE_STARTS
            and 0 <= time.time() - record.started < _REST_SECONDS
        )

    def _failures(self) -> int:
        """Count the last starts in a row that ended before the worker was ready."""
        record = self.record
        if record is None or record.stopped or record.process.is_alive:
            return 0
        if self._has_been_warm(record):
            return 0
        return record.failures + 1

    def stop(self) -> None:
        """Stop the worker, if one runs; the jobs it watches keep running."""
        record = self.record
        if record is not None and record.process.is_alive:
            # Before it ends: what it logs while it stops explains nothing.
            stopped = record.model_copy(update={"stopped": True})
            self._files.write(self._files.worker_record, stopped)
            stop_process(record.process, grace_seconds=_GRACE_SECONDS)
        lost = find_process(self._arguments(), folder=self._files.folder)
        if lost is not None:
            stop_process(lost[0], grace_seconds=_GRACE_SECONDS)

    def is_online(self, api: Rest, since: datetime | None) -> bool:
        """Whether a heartbeat of the worker reached the server after `since`."""
        found = api.post(
            f"/work_pools/{self._settings.work_pool}/workers/filter",
            {"workers": {"status": {"any_": ["ONLINE"]}}},
            _HEARTBEATS,
        )
        times = [beat.last_heartbeat_time for beat in found or [] if beat.name == self.name]
        return any(since is None or time >= since for time in times)

    def is_warm(self) -> bool:
        """Whether the worker has said in its log that it has loaded Oumi."""
        record = self.record
        return record is not None and record.process.is_alive and self._has_been_warm(record)

    def _has_been_warm(self, record: WorkerRecord) -> bool:
        try:
            with self._files.worker_log.open("rb") as log:
                log.seek(record.process.log_offset)
                return any(_WARM_LINE in line for line in log)
        except FileNotFoundError:
            return False

    def last_words(self) -> str:
        """The last log lines of the worker that was last started; empty if we stopped it."""
        record = self.record
        if record is not None and record.stopped:
            return ""
        offset = record.process.log_offset if record else 0
        return last_words(self._files.worker_log, since=offset)

    def raise_if_ended(self) -> None:
        """Raise if the worker is gone.

        Raises:
            EngineUnavailable: It is; carries its last log lines.
        """
        record = self.record
        if record is None or not record.process.is_alive:
            raise EngineUnavailable(
                f"The worker ended. Its log says: {self.last_words() or 'nothing'}",
                f"Fix that, then run `oumi-flows up`; the whole log is in {self._files.worker_log}",
            )

    def _arguments(self) -> list[str]:
        return [
            "worker",
            "start",
            "--type",
            self._kind,
            "--pool",
            self._settings.work_pool,
            "--name",
            self.name,
        ]


def _fingerprint(connection: Connection) -> str:
    """Tells one server and its credentials from another, giving neither away."""
    return short_hash(f"{connection.api_url}\n{connection.auth_string}\n{connection.api_key}")
