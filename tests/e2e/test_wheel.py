"""The wheel has everything that the command and the server need, wherever it is installed."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from flows.core.settings import Settings
from mcp_server.engine import Engine
from mcp_server.guidance import GUIDES
from tests.support.stack import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(900)]
_UV = Path(sys.executable).with_name("uv")


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run(_UV, "build", "--wheel", "--out-dir", folder, REPOSITORY, cwd=folder)
    if built.returncode:
        pytest.skip(f"uv has no build backend here: {built.stderr[-300:]}")
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh virtual environment, which borrows the packages of this one."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    python = venv / "bin" / "python"
    for command in (
        [_UV, "venv", "--python", sys.executable, venv],
        [_UV, "pip", "install", "--no-deps", "--python", python, wheel],
    ):
        done = run(*command, cwd=venv.parent)
        assert done.returncode == 0, done.stderr
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv / "bin" / "oumi-flows"


@pytest.fixture
async def client(installed: Path, tmp_path: Path) -> AsyncGenerator[Client]:
    env = {**os.environ, "OUMI_FLOWS_HOME": str(tmp_path / "home")}
    server = StdioServerParameters(command=str(installed), args=["mcp"], env=env, cwd=str(tmp_path))
    try:
        async with Client(server, read_timeout_seconds=120) as connected:
            yield connected
    finally:
        # The server starts an engine for each client.
        Engine(Settings(home=tmp_path / "home"), environ=env).down()


def test_every_file_that_is_no_code_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "flows", "mcp_server", cwd=REPOSITORY).stdout.split()
    assert set(tracked) - names == set()
    assert "mcp_server/prefect.yaml" in names
    assert not any(name.startswith(("tests/", "benchmarks/", "examples/")) for name in names)


def test_the_command_runs_from_the_wheel_and_not_from_a_checkout(
    installed: Path, tmp_path: Path
) -> None:
    helped = run(installed, "--help", cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert "pipeline" in helped.stdout
    where = run(installed.with_name("python"), "-c", "import mcp_server as m; print(m.__file__)",
                cwd=tmp_path)  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])


async def test_the_server_of_the_wheel_has_its_tools_guides_and_recipes(client: Client) -> None:
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert {"run_oumi_job", "search_configs", "get_started"} <= tools
    for topic in GUIDES:
        assert len((await _call(client, "get_started", topic=topic))["guide"]) > 500
    found = await _call(client, "search_configs", query=["qlora"])
    assert found["configs"]
    config = await _call(client, "get_config", path=found["configs"][0]["path"])
    assert "model" in config["content"]
    for prompt in (await client.list_prompts()).prompts:
        given = {argument.name: "x" for argument in prompt.arguments or []}
        assert (await client.get_prompt(prompt.name, given)).messages


def test_the_engine_of_the_wheel_comes_up(installed: Path, tmp_path: Path) -> None:
    home = {"OUMI_FLOWS_HOME": str(tmp_path / "home"), "OUMI_FLOWS_ENGINE_TIMEOUT_SECONDS": "300"}
    try:
        up = run(installed, "up", cwd=tmp_path, **home)
        assert up.returncode == 0, up.stdout + up.stderr
        listed = run(installed, "jobs", "--json", cwd=tmp_path, **home)
        assert listed.returncode == 0, listed.stderr
    finally:
        down = run(installed, "down", cwd=tmp_path, **home)
    assert down.returncode == 0, down.stderr


async def _call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content
