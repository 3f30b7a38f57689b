"""MCP servers in memory, on a real Prefect server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.settings import Settings
from mcp_server.server import Options, Parts, build_server, make_parts
from tests.mcp_server.calls import Submit, ok
from tests.mcp_server.prefect_stub import PrefectServer


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


@pytest.fixture
def submit(client: Client, config: Path) -> Submit:
    async def submit(**arguments: Any) -> dict[str, Any]:
        given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
        return await ok(client, "run_oumi_job", **(given | arguments))

    return submit
