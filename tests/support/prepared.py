"""The database of an engine that was up once, made once a session and copied for each engine.

Its tables cost a Prefect server 5 CPU seconds, and applying prefect.yaml costs another 8.
"""

import fcntl
import importlib.metadata
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.core.settings import Settings
from mcp_server.engine.deployments import Deployments
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.rest import rest
from mcp_server.engine.server import Server

TIMEOUT_SECONDS = 180.0


@dataclass(frozen=True)
class PreparedEngine:
    """An engine's folder as its first `up` leaves it, of our version and with our pool.

    Args:
        folder: Where it is made; the processes of one session share it.
    """

    folder: Path

    def copy_to(self, home: Path) -> None:
        """Give the engine of `home` the tables and the deployments, as if it had been up once."""
        files = self._files(home)
        files.prepare()
        made = self._made()
        shutil.copy(made.database, files.database)
        shutil.copy(made.deployed_record, files.deployed_record)

    def _made(self) -> EngineFiles:
        """The files to copy; the first process that asks makes them, the others wait for it."""
        files = self._files(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.folder / "ready"
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                _make(files)
                ready.touch()
        return files

    def _files(self, home: Path) -> EngineFiles:
        return EngineFiles(Settings(home=home))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedEngine:
    """One for all the processes of the session."""
    base = tmp_path_factory.getbasetemp()
    return PreparedEngine((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made")


def _make(files: EngineFiles) -> None:
    """Start a server on an empty database, apply prefect.yaml and stop it; no worker is there."""
    settings = Settings(home=files.home, engine_timeout_seconds=TIMEOUT_SECONDS)
    version = importlib.metadata.version("oumi-flows")
    server = Server(files, settings, os.environ)
    deployments = Deployments(files, settings, os.environ, version=version)
    files.prepare()
    connection = server.start()
    try:
        with rest(connection, timeout=settings.api_timeout_seconds) as api:
            deployments.ensure_pool(api)
            deployments.apply(connection, api)
    finally:
        server.stop()
    with closing(sqlite3.connect(files.database)) as database:
        # The copy is of this file alone.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
