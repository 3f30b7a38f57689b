"""The embedded Prefect server: one process, its port and its record."""

import errno
import random
import socket
import time
from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter

from flows.core.errors import EngineUnavailable
from flows.core.live_processes import ProcessRecord
from flows.core.server_record import SERVER_HOST, ServerRecord
from flows.core.settings import Settings
from mcp_server.engine.environment import server_environment
from mcp_server.engine.files import EngineFiles, last_words
from mcp_server.engine.processes import find_process, spawn_detached, stop_process
from mcp_server.engine.rest import rest
from mcp_server.engine.values import Connection
from oumi_flows import python_command

# Below the ports of outgoing connections, which could take our port while the engine is down.
_PORTS: Final = range(20_000, 32_000)
_BACKLOG: Final = 2048
_RELEASE_SECONDS: Final = 1.0
"""The port of a killed server is free some milliseconds after its process is gone."""
_RELEASE_POLL_SECONDS: Final = 0.02
_PORT_TRIES: Final = 100
_HEALTH_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 10.0
_HEALTH: Final = TypeAdapter(bool)
_MODULE: Final = "mcp_server.engine.serve"


class Server:
    """Starts, finds and stops the embedded server. The caller holds the lock for what changes it.

    Args:
        files: Where its record, database and log are.
        settings: The port that a person chose, and the time limit of a start.
        environ: What it inherits.
    """

    def __init__(self, files: EngineFiles, settings: Settings, environ: Mapping[str, str]) -> None:
        self._files = files
        self._settings = settings
        self._environ = environ

    @property
    def process(self) -> ProcessRecord | None:
        """The recorded process, alive or dead; None if this folder is a copy of its own."""
        record = self._record()
        process = record.process if record else None
        if process is None or (process.is_alive and not process.works_in(self._files.folder)):
            return None
        return process

    @property
    def has_moved(self) -> bool:
        """Whether the recorded process was started for another path: its database is not there."""
        record = self._record()
        return record is not None and self._is_of_another_path(record)

    def connection(self) -> Connection:
        """How to reach the server that was last started.

        Raises:
            EngineUnavailable: None was, or its record or credentials are lost.
        """
        record = self._record()
        auth = self._files.read_auth()
        if record is None or auth is None:
            raise EngineUnavailable(
                f"The engine in {self._files.folder} has not been started", "Run `oumi-flows up`"
            )
        return _connection(record.port, auth, self.process)

    def adopt(self) -> ProcessRecord | None:
        """The live server of this folder, found by its command line if its record is lost."""
        process = self.process
        if process and process.is_alive:
            return process
        found = find_process([_MODULE], folder=self._files.folder)
        if found is None:
            return None
        process, (folder, port, *_) = found
        self._files.write(
            self._files.server_record, ServerRecord(port=int(port), process=process, folder=folder)
        )
        return process

    def start(self) -> Connection:
        """Start the server and wait until it answers.

        Raises:
            EngineUnavailable: The port is taken, or the server ended or did not answer in time.
        """
        record = self._record()
        offset = self._files.begin_log(self._files.server_log)
        with self._listen(record.port if record else None) as listener:
            port = listener.getsockname()[1]
            # A program on the old port, or a copy of this folder, may know the old password.
            is_known = record and record.port == port and not self._is_of_another_path(record)
            auth = self._files.ensure_auth(renew=not is_known)
            connection = _connection(port, auth, None)
            process = spawn_detached(
                python_command(_MODULE, str(self._files.folder), str(port), str(listener.fileno())),
                env=server_environment(
                    connection,
                    self._files,
                    self._environ,
                    keep_days=self._settings.keep_days,
                ),
                cwd=self._files.folder,
                log=self._files.server_log,
                log_offset=offset,
                pass_fds=[listener.fileno()],
            )
        self._files.write(
            self._files.server_record,
            ServerRecord(port=port, process=process, folder=str(self._files.folder)),
        )
        connection = connection.model_copy(update={"process": process})
        self.wait_until_healthy(connection, process)
        return connection

    def wait_until_healthy(self, connection: Connection, process: ProcessRecord) -> None:
        """Return once the server answers; fail once its process has ended.

        Raises:
            EngineUnavailable: It ended, or did not answer in time; carries its last log lines.
        """
        deadline = time.monotonic() + self._settings.engine_timeout_seconds
        while not self._answers(connection):
            log = last_words(self._files.server_log, since=process.log_offset)
            if not process.is_alive:
                raise EngineUnavailable(
                    f"The Prefect server ended while it started. Its log says: {log or 'nothing'}",
                    f"Fix that, then run `oumi-flows up`; the whole log is in "
                    f"{self._files.server_log}",
                )
            if time.monotonic() > deadline:
                raise EngineUnavailable(
                    f"The Prefect server (pid {process.pid}) has not answered for "
                    f"{self._settings.engine_timeout_seconds:g} s. Its log says: "
                    f"{log or 'nothing'}",
                    "Try again if the machine is busy, else run `oumi-flows down`, then "
                    "`oumi-flows up`",
                )

    def stop(self) -> None:
        """End the server, if one runs; the port stays remembered."""
        process = self.adopt()
        record = self._record()
        if process is None or record is None:
            return
        # Before it ends: what it logs while it stops explains nothing.
        stopped = record.model_copy(update={"stopped": True})
        self._files.write(self._files.server_record, stopped)
        stop_process(process, grace_seconds=_GRACE_SECONDS)

    def last_words(self) -> str:
        """The last log lines of the server that was last started; empty if we stopped it."""
        record = self._record()
        process = self.process
        if record is None or process is None or record.stopped:
            return ""
        return last_words(self._files.server_log, since=process.log_offset)

    def _record(self) -> ServerRecord | None:
        return self._files.read(self._files.server_record, ServerRecord)

    def _is_of_another_path(self, record: ServerRecord) -> bool:
        return record.folder not in ("", str(self._files.folder))

    def _answers(self, connection: Connection) -> bool:
        try:
            with rest(connection, timeout=_HEALTH_SECONDS) as api:
                return api.get("/health", _HEALTH) is True
        except EngineUnavailable:
            time.sleep(0.05)
            return False

    def _listen(self, remembered: int | None) -> socket.socket:
        """A listening socket on the chosen, the remembered or any free port, in this order."""
        chosen = self._settings.engine_port
        first = chosen or remembered
        ports = [first] if first else []
        if not chosen:
            ports += random.sample(_PORTS, _PORT_TRIES)
        for port in ports:
            patience = _RELEASE_SECONDS if port == remembered else 0.0
            listener = _bind(port, until=time.monotonic() + patience)
            if listener is not None:
                return listener
        raise EngineUnavailable(
            f"Port {ports[0]} of {SERVER_HOST} is taken"
            if chosen
            else f"No port of {SERVER_HOST} is free",
            "Set OUMI_FLOWS_ENGINE_PORT to another port, or unset it to use any free port",
        )


def _bind(port: int, *, until: float) -> socket.socket | None:
    """A socket that listens on a port, tried again until then; None if the port is taken.

    Raises:
        EngineUnavailable: This machine lets nothing listen there.
    """
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((SERVER_HOST, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise EngineUnavailable(
                    f"The engine cannot listen on {SERVER_HOST}:{port} ({error.strerror})",
                    "Give this machine a loopback interface",
                ) from error
            if time.monotonic() >= until:
                return None
            time.sleep(_RELEASE_POLL_SECONDS)
        else:
            return listener


def _connection(port: int, auth: str, process: ProcessRecord | None) -> Connection:
    origin = f"http://{SERVER_HOST}:{port}"
    # A link into the UI at / shows "Page not found" before the log-in; the one at /v2 asks
    # for the password, then shows the page (Prefect 3.8.8).
    return Connection(
        api_url=f"{origin}/api",
        auth_string=auth,
        ui_url=f"{origin}/v2",
        embedded=True,
        process=process,
    )
