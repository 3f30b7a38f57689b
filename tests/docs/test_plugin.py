"""The plugin, the skill and the registry's entry are valid, and name what there is."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from mcp import Client, StdioServerParameters

from flows.core.settings import Settings
from mcp_server.cli.backend import Backend
from mcp_server.cli.exits import Exit
from mcp_server.cli.output import Output
from mcp_server.cli.terminal import build_app
from mcp_server.engine import Engine
from tests.mcp_server.test_listing import TOOLS
from tests.support.stack import REPOSITORY

PLUGIN = Path(REPOSITORY, "plugin")
SKILL = (PLUGIN / "skills" / "train-models" / "SKILL.md").read_text()
BIN = Path(sys.executable).parent


def read(path: str) -> Any:
    return json.loads(Path(REPOSITORY, path).read_text())


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "skillsaw", "lint", "--strict", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_they_are_as_their_published_schemas_say(tmp_path: Path) -> None:
    # In a folder of their own: the linter reads the whole repository around the files it is given.
    for name in ("plugin", ".claude-plugin"):
        shutil.copytree(Path(REPOSITORY, name), tmp_path / name)
    shutil.copy(Path(REPOSITORY, "server.json"), tmp_path)
    checked = lint(tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_broken_entry_is_found(tmp_path: Path) -> None:
    entry = read("server.json")
    entry["description"] = "Far too long. " * 20
    del entry["packages"][0]["transport"]
    (tmp_path / "server.json").write_text(json.dumps(entry))
    checked = lint(tmp_path)
    assert checked.returncode != 0
    assert "transport" in checked.stdout


def test_versions_and_names_are_those_of_the_package() -> None:
    package = tomllib.loads(Path(REPOSITORY, "pyproject.toml").read_text())["project"]
    entry, plugin = read("server.json"), read("plugin/.claude-plugin/plugin.json")
    (published,) = entry["packages"]
    versions = {entry["version"], published["version"], plugin["version"]}
    assert versions == {package["version"]}
    assert published["identifier"] == plugin["name"] == package["name"]
    # By this line in the package's description the registry knows that both have one owner.
    assert f"mcp-name: {entry['name']}" in Path(REPOSITORY, "README.md").read_text()


def test_the_skill_names_tools_and_commands_that_there_are(tmp_path: Path) -> None:
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", SKILL))
    arguments = {"job_id", "idempotency_key", "from_job", "is_done"}
    assert words - arguments <= set(TOOLS)
    assert {"run_oumi_job", "wait_for_job", "preview_data", "diagnose_job"} <= words
    output, settings = Output(), Settings(home=tmp_path)
    backend = Backend(settings, Engine(settings, environ=os.environ), output)
    commands = typer.main.get_group(build_app(backend, output, settings)).commands
    named = set(re.findall(r"`oumi-flows ([a-z-]+)", SKILL))
    assert named <= set(commands)
    assert len(named) > 15


def test_the_skill_says_what_the_exit_codes_are() -> None:
    said = re.search(r"Exit code (\d): succeeded; (\d): failed or crashed; (\d): cancelled", SKILL)
    assert said
    assert tuple(map(int, said.groups())) == (Exit.OK, Exit.JOB_FAILED, Exit.JOB_CANCELLED)


@pytest.mark.parametrize("of", ["plugin/.mcp.json", "server.json"])
async def test_the_command_that_they_name_serves_the_tools(of: str, tmp_path: Path) -> None:
    if of == "server.json":
        (package,) = read(of)["packages"]
        command = package["identifier"]
        arguments = [word["value"] for word in package["packageArguments"]]
    else:
        server = read(of)["mcpServers"]["oumi-flows"]
        command, arguments = server["command"], server["args"]
    path = f"{BIN}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OUMI_FLOWS_HOME": str(tmp_path)}
    parameters = StdioServerParameters(command=str(BIN / command), args=arguments, env=env)
    try:
        async with Client(parameters, read_timeout_seconds=90) as client:
            tools = await client.list_tools()
    finally:
        # The server starts an engine for each client.
        Engine(Settings(home=tmp_path), environ=env).down()
    assert [tool.name for tool in tools.tools] == TOOLS
