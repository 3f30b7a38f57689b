"""A whole engine, started from a project with modules of our names, with ``PYTHONPATH=.``."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.support.jobs import job_config

COMMAND = ("-P", "-c", "import sys; from oumi_flows import main; sys.exit(main())")
_REFUSES = "raise ImportError(__file__)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("mcp_server", "json", "random", "prefect"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(_REFUSES)
    (folder / "flows").mkdir()
    (folder / "flows" / "__init__.py").write_text("WORD = 'the flows of the project'\n")
    return folder


@pytest.fixture
def env(project: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    env = {**os.environ, "OUMI_FLOWS_HOME": str(tmp_path / "home"), "PYTHONPATH": "."}
    yield env
    subprocess.run([sys.executable, *COMMAND, "down"], cwd=project, env=env, timeout=60, check=True)


@pytest.fixture
async def client(project: Path, env: dict[str, str]) -> AsyncGenerator[Client]:
    server = StdioServerParameters(
        command=sys.executable, args=[*COMMAND, "mcp"], env=env, cwd=project
    )
    async with Client(server, read_timeout_seconds=150) as client:
        yield client


@pytest.mark.engine
@pytest.mark.slow
async def test_a_project_with_a_package_named_flows_runs_its_own_code_and_we_run_ours(
    client: Client, project: Path
) -> None:
    script = "python -c \"import flows, os; print(flows.WORD, os.environ['PYTHONPATH'])\""
    config = str(job_config(project, "own-flows", script))
    where = {"config_path": config, "client_cwd": str(project)}
    preview = await client.call_tool("schedule_job", {**where, "cron": "0 4 * * *"})
    assert not preview.is_error, preview.content
    started = await client.call_tool("run_oumi_job", {**where, "dry_run": False})
    assert not started.is_error, started.content
    job_id = (started.structured_content or {})["job_id"]
    done = await client.call_tool("wait_for_job", {"job_id": job_id, "timeout_seconds": 120})
    assert (done.structured_content or {})["state"] == "succeeded"
    log = await client.call_tool("get_job_logs", {"job_id": job_id})
    assert "the flows of the project ." in str(log.content)
