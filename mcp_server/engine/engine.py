"""The engine's life cycle: one Prefect server and one worker per OUMI_FLOWS_HOME."""

import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from flows.core.errors import EngineUnavailable
from flows.core.live_processes import ProcessRecord
from flows.core.names import WORKER_TYPE, deployment
from flows.core.settings import Settings
from mcp_server.engine.connection import external_connection
from mcp_server.engine.deployments import Deployments
from mcp_server.engine.doctor import Doctor
from mcp_server.engine.environment import client_environment
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.inspection import Inspection
from mcp_server.engine.pool_gates import gate_findings
from mcp_server.engine.rest import Unauthorized, rest
from mcp_server.engine.server import Server
from mcp_server.engine.values import Connection, EngineFinding, EngineStatus
from mcp_server.engine.worker import Worker

Report = Callable[[str], None]

_WORKER_POLL_SECONDS: Final = 0.2
_KEEP_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


def _say_nothing(_: str) -> None:
    pass


class Engine:
    """Starts and stops the engine, and describes its state. Safe from threads and processes.

    Args:
        settings: Where the engine lives and how long things may take.
        environ: The environment that may name a Prefect server and that our processes inherit.
        worker_type: Prefect's name of the worker type to start.
        definition: The ``prefect.yaml`` to apply; None: ours.

    Raises:
        EngineUnavailable: The Prefect profiles, which may name a server, cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        worker_type: str = WORKER_TYPE,
        definition: Path | None = None,
    ) -> None:
        version = importlib.metadata.version("oumi-flows")
        self._settings = settings
        self._environ = environ
        self._external = external_connection(environ)
        self._files = EngineFiles(settings, server=self._external)
        self._server = Server(self._files, settings, environ)
        self._worker = Worker(self._files, settings, environ, kind=worker_type, version=version)
        self._deployments = Deployments(
            self._files, settings, environ, version=version, definition=definition
        )
        self._inspection = Inspection(
            self._files, settings, self._server, self._worker, self._deployments, version=version
        )

    def connection(self) -> Connection:
        """Return where the Prefect server is, without a request: it may be down.

        Raises:
            EngineUnavailable: The embedded engine was never started.
        """
        return self._external or self._server.connection()

    def environment(self) -> dict[str, str]:
        """Return the variables with which a Prefect command uses this engine.

        Raises:
            EngineUnavailable: The embedded engine was never started.
        """
        return client_environment(self.connection(), self._files, self._environ)

    def ensure(self, *, report: Report = _say_nothing, after_down: bool = True) -> Connection:
        """Bring up what is missing and return once jobs are accepted.

        With an external server nothing is started: it only has to be ready.

        Args:
            report: Receives each step that takes time.
            after_down: Whether to start an engine that `down` stopped; False only for a caller
                that nothing asked for the engine.

        Raises:
            EngineUnavailable: Something could not be started, or the external server is not ready.
        """
        if self._external is not None:
            self._check_external(self._external)
            return self._external
        if not after_down:
            self._refuse_after_down()
        return self._ready() or self._bring_up(report, patient=True, after_down=after_down)

    def up(self, *, wait_for_worker: bool, report: Report = _say_nothing) -> EngineStatus:
        """Start everything that this machine runs; no server if `PREFECT_API_URL` names one.

        Args:
            wait_for_worker: Whether to return only once the worker has loaded Oumi.
            report: Receives each step that takes time.

        Raises:
            EngineUnavailable: Something could not be started.
        """
        connection = self._bring_up(report, patient=False, after_down=True)
        if wait_for_worker:
            report("Waiting for the worker to load Oumi")
            self._wait_for_worker(connection)
        return self.status()

    def running(self) -> Connection | None:
        """Find the engine if all of it is up, or the named server; start nothing."""
        return self._external or self._ready()

    def keep(self, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Restart what ends, until `down` is called.

        Args:
            pause: Waits for this many seconds between two looks.
        """
        while True:
            pause(_KEEP_SECONDS)
            if self._files.stopped.exists():
                return
            try:
                if not self._is_up():
                    self._bring_up(_say_nothing, patient=True, after_down=False)
            except EngineUnavailable as error:
                logger.warning("The engine was not restarted: %s", error)

    def _is_up(self) -> bool:
        if self._external is not None:
            return self._worker.serves(self._external)
        return self._ready() is not None

    def down(self) -> EngineStatus:
        """Stop the worker, then the embedded server. Running jobs keep running.

        Raises:
            EngineUnavailable: A process could not be ended.
        """
        if self._files.folder.exists():
            with self._files.lock(timeout=self._settings.engine_timeout_seconds):
                self._worker.stop()
                self._files.stopped.touch(mode=0o600)
                if self._external is None:
                    self._server.stop()
        return self.status()

    def status(self) -> EngineStatus:
        """Describe the state of the engine, and the first problem."""
        return self._inspection.status(self._external)

    def doctor(self) -> list[EngineFinding]:
        """Check everything, and say how to fix what is wrong."""
        found = Doctor(self._files, self._settings).findings(self.status)
        try:
            connection = self._external or self._server.connection()
            with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
                found += gate_findings(api, self._settings.work_pool)
        except EngineUnavailable:
            pass  # reported above
        return found

    def _ready(self) -> Connection | None:
        """The embedded engine, if all of it is up; costs one request."""
        try:
            connection = self._server.connection()
            process = self._server.process
            if process is None or not process.is_alive or not self._worker.serves(connection):
                return None
            with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
                return connection if self._deployments.are_current(api) else None
        except EngineUnavailable:
            return None

    def _refuse_after_down(self) -> None:
        if self._files.stopped.exists():
            raise EngineUnavailable(
                "The engine was stopped with `oumi-flows down`", "Start it with `oumi-flows up`"
            )

    def _bring_up(self, report: Report, *, patient: bool, after_down: bool) -> Connection:
        self._files.prepare()
        # The process that holds it may be starting a server, then applying the deployments.
        with self._files.lock(timeout=2 * self._settings.engine_timeout_seconds):
            if not after_down:
                # `down` may have held the lock until now.
                self._refuse_after_down()
            self._files.stopped.unlink(missing_ok=True)
            connection = self._external or self._bring_up_server(report)
            with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
                # A program that answers but is no Prefect server gets neither a pool nor a worker.
                api.version()
                self._deployments.ensure_pool(api)
                if self._deployments.are_of_another_version():
                    # It may not have the flows that the deployments are about to name.
                    report("Replacing the worker of another version")
                    self._worker.stop()
                resting = patient and self._worker.should_rest()
                if not resting and not self._worker.serves(connection):
                    report("Starting the worker")
                    self._worker.start(connection)
                if not self._deployments.are_current(api):
                    report("Applying prefect.yaml")
                    self._deployments.apply(connection, api)
        return connection

    def _bring_up_server(self, report: Report) -> Connection:
        process = self._server.adopt()
        if process is not None:
            connection = None if self._server.has_moved else self._reach(process)
            if connection is not None:
                return connection
            self._server.stop()
        report("Starting the Prefect server")
        return self._server.start()

    def _reach(self, process: ProcessRecord) -> Connection | None:
        """Wait for the running server to answer; None if it cannot be used."""
        try:
            connection = self._server.connection()
            self._server.wait_until_healthy(connection, process)
            with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
                api.version()
        except Unauthorized:
            # Its credentials are gone from the folder, so no client of ours can use it.
            return None
        except EngineUnavailable:
            if process.is_alive and self._files.read_auth() is not None:
                raise
            return None
        return connection

    def _check_external(self, connection: Connection) -> None:
        with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
            if not self._deployments.exist(api):
                raise EngineUnavailable(
                    f"The Prefect server at {connection.api_url} has no deployment "
                    f"{deployment(self._settings.work_pool)}",
                    "Run `oumi-flows up` to apply prefect.yaml there and start a worker on this "
                    "machine",
                )

    def _wait_for_worker(self, connection: Connection) -> None:
        deadline = time.monotonic() + self._settings.engine_timeout_seconds
        with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
            while not self._inspection.worker_is_ready(api):
                self._worker.raise_if_ended()
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"The worker was not ready after "
                        f"{self._settings.engine_timeout_seconds:g} s. Its log says: "
                        f"{self._worker.last_words() or 'nothing'}",
                        "Jobs are accepted and wait for it; `oumi-flows status` says when it is "
                        "ready",
                    )
                time.sleep(_WORKER_POLL_SECONDS)
