"""A real Prefect server, and MCP servers in memory on top of it."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from mcp.client import Client

from flows.core.settings import Settings
from mcp_server.server import Options, Parts, build_server, make_parts
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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", engine_timeout_seconds=5, api_timeout_seconds=20)


@pytest.fixture
def parts(prefect: PrefectServer, settings: Settings) -> Parts:
    return make_parts(settings, lambda **_: prefect)


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[Client]:
    """A client of the 2026-07-28 era."""
    async with Client(build_server(parts, Options())) as connected:
        yield connected


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A training config in a folder of its own."""
    folder = tmp_path / "client folder"
    folder.mkdir()
    path = folder / "tiny.yaml"
    path.write_text("model:\n  model_name: tiny\ntraining:\n  max_steps: 5\n  output_dir: out\n")
    return path
