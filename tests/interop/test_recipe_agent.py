"""An agent with no other source than the tools gets a training to run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.mcp_client import mcp_session
from tests.support.node import INTEROP
from tests.support.stack import OUMI_FLOWS, REPOSITORY, Stack

PYTHON = REPOSITORY / ".cache" / "venvs" / "pydantic-ai" / "bin" / "python"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not PYTHON.exists(), reason="pydantic-ai: run scripts/provision"),
]


def run(command: list[str], stack: Stack, folder: Path) -> str:
    done = subprocess.run(
        command,
        env=dict(stack.env),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
async def test_an_agent_goes_from_a_wish_to_a_running_job_by_what_tools_say(
    stack: Stack, tmp_path: Path
) -> None:
    shutil.copy(REPOSITORY / "examples" / "tiny" / "make_tiny.py", tmp_path)
    run([sys.executable, "make_tiny.py", "data"], stack, tmp_path)
    agent = [str(PYTHON), str(INTEROP / "clients" / "pydantic_ai_recipe.py")]
    out = run([*agent, str(tmp_path), str(OUMI_FLOWS), "mcp"], stack, tmp_path)
    seen: dict[str, Any] = json.loads(out.splitlines()[-1])

    async with mcp_session(stack) as session:
        session.submitted.append(seen["job_id"])  # ended when the session is
        job = await session.call("get_job_status", job_id=seen["job_id"])
    assert seen["state"] == "running"
    assert job["config_path"] == str(tmp_path / "train.yaml")
    assert job["model_name"] == seen["model_name"] == "data/model"
    assert seen["corrected"] == ["training.max_stepz", "training.max_steps"]
    assert seen["valid"] is True
    assert seen["blocking"] is False, seen["findings"]
    assert seen["argv"][:2] == ["oumi", "train"]
    assert seen["asked"] == [
        "get_started",
        "search_configs",
        "get_config",
        "write_file",
        "validate_config",
        "write_file",
        "validate_config",
        "pre_flight_check",
        "run_oumi_job",
        "run_oumi_job",
        "wait_for_job",
    ]
