"""The way of the skill: from "train this on my data and tell me when it is done" to the result."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mcp_client import mcp_session
from tests.support.stack import OUMI_FLOWS, REPOSITORY, Stack

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SKILL = Path(REPOSITORY, "plugin", "skills", "train-models", "SKILL.md").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A person's folder: a model and data, and no config."""
    shutil.copy(REPOSITORY / "examples" / "tiny" / "make_tiny.py", tmp_path)
    subprocess.run([sys.executable, "make_tiny.py", "data"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.timeout(600)
async def test_no_call_fails_from_the_wish_to_the_result(stack: Stack, data: Path) -> None:
    where = {"client_cwd": str(data)}
    called: list[str] = []
    async with mcp_session(stack) as session:

        async def call(tool: str, **arguments: object) -> dict[str, object]:
            called.append(tool)
            return await session.call(tool, **arguments)

        found = await call("search_configs", query=["sft", "smollm"])
        assert found["summary"]
        recipe = REPOSITORY / "examples" / "tiny" / "train.yaml"
        (data / "mine.yaml").write_text(recipe.read_text())

        rows = await call("preview_data", config="mine.yaml", **where)
        assert rows["rows"]
        checked = await call("validate_config", config="mine.yaml", task_type="training", **where)
        assert checked["valid"] is True
        assert (await call("pre_flight_check", config="mine.yaml", **where))["blocking"] is False
        asked = {"config_path": "mine.yaml", "overrides": {"training.max_steps": 20}, **where}
        plan = await call("run_oumi_job", **asked)
        assert plan["job_id"] is None
        job = await call("run_oumi_job", **asked, dry_run=False, idempotency_key="my wish")
        job_id = str(job["job_id"])
        session.submitted.append(job_id)

        # The shell in the background.
        watching = await asyncio.create_subprocess_exec(
            *(str(OUMI_FLOWS), "watch", job_id),
            env=dict(stack.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await watching.communicate()
        assert watching.returncode == 0
        assert "is succeeded" in output.decode()

        assert (await call("diagnose_job", job_id=job_id))["health"] == "ok"
        assert (await call("get_job_metrics", job_ids=[job_id]))["jobs"]
        assert (await call("get_job_results", job_id=job_id))["models"]
        await call("annotate_job", job_id=job_id, note="the first try")
    in_the_skill = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", SKILL)
    assert list(dict.fromkeys(called)) == [
        tool for tool in dict.fromkeys(in_the_skill) if tool in called
    ]
