import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.jobs import GREETING, quick_job, slow_job
from tests.support.node import INTEROP, NODE, needs_node_packages
from tests.support.stack import OUMI_FLOWS, REPOSITORY, Stack

pytestmark = pytest.mark.interop

VENVS = REPOSITORY / ".cache" / "venvs"


def python_client(venv: str, script: str) -> object:
    python = VENVS / venv / "bin" / "python"
    return pytest.param(
        [str(python), str(INTEROP / "clients" / script)],
        id=venv,
        marks=pytest.mark.skipif(not python.exists(), reason=f"{venv}: run scripts/provision"),
    )


def node_client(script: str) -> object:
    command = [str(NODE), str(INTEROP / "js" / script)]
    return pytest.param(command, id=f"typescript-{script}", marks=needs_node_packages)


CLIENTS = [
    node_client("modern.mjs"),
    node_client("legacy.mjs"),
    python_client("mcp-1.27", "mcp_1_27.py"),
    python_client("pydantic-ai", "pydantic_ai_agent.py"),
]
PROTOCOLS = {"modern.mjs": "2026-07-28", "legacy.mjs": "2025-06-18", "mcp_1_27.py": "2025-11-25"}


@pytest.mark.parametrize("client", CLIENTS)
def test_an_outside_client_submits_waits_reads_logs_and_cancels(
    client: list[str], stack: Stack, tmp_path: Path
) -> None:
    jobs = [str(quick_job(tmp_path)), str(slow_job(tmp_path))]
    done = subprocess.run(
        [*client, *jobs, str(tmp_path), str(OUMI_FLOWS), "mcp"],
        env=dict(stack.env),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    seen = json.loads(done.stdout.splitlines()[-1])

    assert {"run_oumi_job", "wait_for_job", "get_job_logs", "cancel_job"} <= set(seen["tools"])
    assert seen["waited"] == "succeeded"
    assert GREETING in seen["logs"]
    assert "JOB_ALREADY_DONE: " in seen["error"]
    assert seen["started"] == "running"
    assert seen["cancelled"] == "cancelled"
    assert seen.get("protocol") == PROTOCOLS.get(os.path.basename(client[1]))  # noqa: PTH119
