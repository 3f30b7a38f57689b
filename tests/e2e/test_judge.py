"""A real `oumi judge`, as a job."""

from pathlib import Path

import pytest

from tests.configs.test_plan import JUDGE
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack

pytestmark = pytest.mark.engine


async def test_a_judge_scores_a_file(stack: Stack, tmp_path: Path) -> None:
    config = tmp_path / "judge.yaml"
    config.write_text(JUDGE)
    (tmp_path / "rows.jsonl").write_text('{"text": "call 5"}\n{"text": "none"}\n')
    files = {"input_path": "rows.jsonl", "output_path": "scores/all.jsonl"}
    (tmp_path / "scores").mkdir()
    async with mcp_session(stack) as session:
        job_id = await session.submit(config, command="judge", overrides=files)
        ended = await session.wait(job_id)
    assert ended["state"] == "succeeded", ended
    assert len((tmp_path / "scores" / "all.jsonl").read_text().splitlines()) == 2
