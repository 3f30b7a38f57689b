"""Explains what is wrong with the engine and how to fix it."""

import importlib.metadata
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Final

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.engine.files import LOW_SPACE_BYTES, MIN_FREE_BYTES, EngineFiles
from mcp_server.engine.values import EngineFinding, EngineSeverity, EngineStatus

_RESTART: Final = "Run `oumi-flows down`, then `oumi-flows up`; running jobs keep running"
_OTHERS: Final = 0o077


class Doctor:
    """Looks at everything that can keep jobs from running.

    Args:
        files: The engine's folder.
        settings: Where the home folder is.
    """

    def __init__(self, files: EngineFiles, settings: Settings) -> None:
        self._files = files
        self._settings = settings

    def findings(self, look: Callable[[], EngineStatus]) -> list[EngineFinding]:
        """Check everything, in the order in which things depend on each other.

        Args:
            look: Returns the state of server and worker.
        """
        found = list(self._folder())
        status = look()
        return [*found, *_server(status), *_worker(status)]

    def _folder(self) -> Iterator[EngineFinding]:
        home = self._settings.home
        try:
            self._files.prepare()
        except EngineUnavailable as error:
            yield _error("Folder", error.what, error.next_step)
            return
        free = shutil.disk_usage(home).free
        if free < LOW_SPACE_BYTES:
            yield EngineFinding(
                severity=EngineSeverity.WARNING,
                subject="Disk",
                what=f"{free // 2**20} MB are free on the disk of {home}",
                fix=f"Free some: below {MIN_FREE_BYTES // 2**20} MB the engine does not start",
            )
        elif stat.S_IMODE(home.stat().st_mode) & _OTHERS:
            yield EngineFinding(
                severity=EngineSeverity.WARNING,
                subject="Folder",
                what=f"Other users can read {home}, which holds job configs and logs",
                fix=f"Run `chmod 700 {home}`",
            )
        else:
            yield _ok("Folder", f"{home} is writable and private")


def _server(status: EngineStatus) -> Iterator[EngineFinding]:
    server = status.server
    if status.problem and not (server.healthy and status.deployed):
        yield _error("Prefect server", status.problem, status.fix or "")
        return
    yield _ok("Prefect server", f"Prefect {server.version} answers at {server.url}")
    if status.embedded and server.version != importlib.metadata.version("prefect"):
        yield EngineFinding(
            severity=EngineSeverity.WARNING,
            subject="Prefect server",
            what=f"It runs Prefect {server.version}; another version is installed",
            fix=_RESTART,
        )
    yield _ok("Deployment", "prefect.yaml is applied")


def _worker(status: EngineStatus) -> Iterator[EngineFinding]:
    worker = status.worker
    if not status.server.healthy:
        return
    if not worker.alive:
        yield EngineFinding(
            severity=EngineSeverity.ERROR if status.embedded else EngineSeverity.WARNING,
            subject="Worker",
            what=status.problem or f"No worker {worker.name} runs on this machine",
            fix="Run `oumi-flows up`" + ("" if status.embedded else ", unless other workers run"),
        )
    elif status.problem and status.deployed:
        yield _error("Worker", status.problem, status.fix or "")
    elif not worker.online:
        yield EngineFinding(
            severity=EngineSeverity.WARNING,
            subject="Worker",
            what=f"The worker (pid {worker.pid}) has not reached the Prefect server lately",
            fix=f"Wait if it just started, else read {worker.log_path}. {_RESTART}",
        )
    elif worker.version != status.version:
        yield EngineFinding(
            severity=EngineSeverity.WARNING,
            subject="Worker",
            what=f"It runs oumi-flows {worker.version}; {status.version} is installed",
            fix=_RESTART,
        )
    elif not worker.warm:
        yield _ok("Worker", f"{worker.name} (pid {worker.pid}) is loading Oumi")
    else:
        yield _ok("Worker", f"{worker.name} (pid {worker.pid}) is ready")


def _ok(subject: str, what: str) -> EngineFinding:
    return EngineFinding(severity=EngineSeverity.OK, subject=subject, what=what)


def _error(subject: str, what: str, fix: str) -> EngineFinding:
    return EngineFinding(severity=EngineSeverity.ERROR, subject=subject, what=what, fix=fix)
