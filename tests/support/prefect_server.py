"""A real Prefect server for the tests that stand in for its worker."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.mcp_server.prefect_stub import PrefectServer, free_port
from tests.support.waiting import eventually_sync


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server with the job deployment and no worker: tests set the states themselves."""
    home = tmp_path_factory.mktemp("prefect")
    server = PrefectServer(port=free_port(), auth_string="tester:secret")
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_SERVER_API_AUTH_STRING": server.auth_string,
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "1",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_MAX_OVERFLOW": "0",
        "PREFECT__SERVER_FINAL": "1",
    }
    factory = "prefect.server.api.server:create_app"
    command = [sys.executable, "-m", "uvicorn", "--factory", factory, "--host", "127.0.0.1"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(server.port), "--log-level", "warning"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually_sync(
            lambda: process.poll() is not None or server.is_healthy(), timeout=90, interval=0.2
        )
        assert process.poll() is None, (home / "server.log").read_text()
        server.create_deployment()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
