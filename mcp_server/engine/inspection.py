"""Looks at the engine without changing it."""

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.engine.deployments import Deployments
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.processes import usage_of
from mcp_server.engine.rest import Rest, rest
from mcp_server.engine.server import Server
from mcp_server.engine.values import Connection, EngineStatus, ServerStatus, WorkerStatus
from mcp_server.engine.worker import Worker


class Inspection:
    """One look at server, worker and deployments.

    Args:
        files: The engine's folder.
        settings: For the limit of one request.
        server: The embedded server.
        worker: The worker of this machine.
        deployments: The deployments that the server should have.
        version: The version of oumi-flows that is installed.
    """

    def __init__(
        self,
        files: EngineFiles,
        settings: Settings,
        server: Server,
        worker: Worker,
        deployments: Deployments,
        *,
        version: str,
    ) -> None:
        self._files = files
        self._settings = settings
        self._server = server
        self._worker = worker
        self._deployments = deployments
        self._version = version

    def status(self, external: Connection | None) -> EngineStatus:
        """Describe everything; `external` is the server that a person named, if any."""
        connection, trouble = self._find(external)
        server, worker, deployed = ServerStatus(), self._worker_process(), False
        if connection is not None:
            server = ServerStatus(url=connection.api_url)
            try:
                with rest(connection, timeout=self._settings.api_timeout_seconds) as api:
                    version = api.version()
                    server = server.model_copy(update={"healthy": True, "version": version})
                    worker = worker.model_copy(update={"online": self._is_online(api, worker)})
                    deployed = self._is_deployed(api, external)
            except EngineUnavailable as error:
                trouble = error
        if external is None:
            server = self._with_process(server)
        trouble = self._diagnose(server, worker, trouble, deployed=deployed, external=external)
        return EngineStatus(
            summary=trouble.what if trouble else _summary(server, worker),
            embedded=external is None,
            api_url=connection.api_url if connection else None,
            ui_url=connection.ui_url if connection else None,
            auth_path=str(self._files.auth) if connection and connection.embedded else None,
            server=server,
            worker=worker,
            deployed=deployed,
            version=self._version,
            problem=trouble.what if trouble else None,
            fix=trouble.next_step if trouble else None,
        )

    def worker_is_ready(self, api: Rest) -> bool:
        """Whether the worker takes jobs at once."""
        return self._worker.is_warm() and self._is_online(api, self._worker_process())

    def _find(
        self, external: Connection | None
    ) -> tuple[Connection | None, EngineUnavailable | None]:
        try:
            return external or self._server.connection(), None
        except EngineUnavailable as error:
            return None, error

    def _is_online(self, api: Rest, worker: WorkerStatus) -> bool:
        return worker.alive and self._worker.is_online(api, worker.started_at)

    def _is_deployed(self, api: Rest, external: Connection | None) -> bool:
        exists = self._deployments.exist(api)
        return exists and (external is not None or self._deployments.are_current(api))

    def _with_process(self, server: ServerStatus) -> ServerStatus:
        process = self._server.process
        alive = process is not None and process.is_alive
        usage = usage_of(process.pid) if process and alive else None
        return server.model_copy(
            update={
                "pid": process.pid if process and alive else None,
                "alive": alive,
                # Someone else may be answering on the port of a server that is gone.
                "healthy": server.healthy and alive,
                "log_path": str(self._files.server_log),
                "started_at": usage[0] if usage else None,
                "rss_bytes": usage[1] if usage else None,
            }
        )

    def _worker_process(self) -> WorkerStatus:
        record = self._worker.record
        log_path = str(self._files.worker_log)
        if record is None or not record.process.is_alive:
            return WorkerStatus(name=self._worker.name, log_path=log_path)
        usage = usage_of(record.process.pid)
        return WorkerStatus(
            name=self._worker.name,
            pid=record.process.pid,
            alive=True,
            warm=self._worker.is_warm(),
            version=record.version,
            log_path=log_path,
            started_at=usage[0] if usage else None,
            rss_bytes=usage[1] if usage else None,
        )

    def _diagnose(
        self,
        server: ServerStatus,
        worker: WorkerStatus,
        trouble: EngineUnavailable | None,
        *,
        deployed: bool,
        external: Connection | None,
    ) -> EngineUnavailable | None:
        """The first thing that keeps jobs from running."""
        up = "Run `oumi-flows up`"
        trouble = (self._diagnose_process(server) if external is None else None) or trouble
        if trouble is not None:
            return trouble
        if not deployed:
            return EngineUnavailable("Our deployment is missing or out of date there", up)
        if not worker.alive and external is None:
            words = self._worker.last_words()
            return EngineUnavailable(
                "The worker is not running, so jobs wait"
                + (f". Its log says: {words}" if words else ""),
                up,
            )
        if worker.alive and not self._worker_is_in_step(external):
            return EngineUnavailable("The worker works for another Prefect server", up)
        return None

    def _diagnose_process(self, server: ServerStatus) -> EngineUnavailable | None:
        """What is wrong with the embedded server's process."""
        if server.url is not None and not server.alive:
            words = self._server.last_words()
            return EngineUnavailable(
                "The Prefect server is not running" + (f". Its log says: {words}" if words else ""),
                "Run `oumi-flows up`",
            )
        if server.alive and self._server.has_moved:
            return EngineUnavailable(
                f"The engine's folder was moved to {self._files.folder} while it ran",
                "Run `oumi-flows up`, which starts it again there; jobs keep running",
            )
        return None

    def _worker_is_in_step(self, external: Connection | None) -> bool:
        connection, _ = self._find(external)
        return connection is not None and self._worker.serves(connection)


def _summary(server: ServerStatus, worker: WorkerStatus) -> str:
    if not worker.alive:
        return f"Prefect {server.version} answers at {server.url}; no worker on this machine"
    state = "is ready" if worker.warm and worker.online else "is loading Oumi; jobs wait for it"
    return f"Prefect {server.version} answers at {server.url}; the worker {state}"
