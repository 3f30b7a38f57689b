"""The preview asked of a real worker, and its part of a job that has nothing to learn."""

import json
from contextlib import aclosing
from pathlib import Path

import pytest

from flows.core.settings import Settings
from mcp_server.server import make_parts
from mcp_server.services.data_preview import DataPreviewService
from mcp_server.services.worker_calls import WorkerCalls
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack
from tests.training_data.data_sets import config

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}


@pytest.mark.engine
async def test_the_worker_shows_rows_and_refuses_a_job_with_nothing_to_learn(
    stack: Stack, folder: Path
) -> None:
    (folder / "train.jsonl").write_text(json.dumps(CHAT) + "\n")
    (folder / "train.yaml").write_text(json.dumps(config(trainer="HF")))
    settings = Settings(home=Path(stack.env["OUMI_FLOWS_HOME"]))
    parts = make_parts(settings, lambda *, report, after_down: stack.connection)
    async with aclosing(parts.gateway):
        service = DataPreviewService(WorkerCalls(parts.gateway), wait_seconds=100)
        answer = await service.preview("train.yaml", client_cwd=str(folder), rows=1)
    (row,) = answer.rows
    assert (row.text, row.trained_tokens) == ("<|user|>Hi<|assistant|>Ho<|eos|>", 0)
    assert answer.findings[0].startswith("No row of train has a token to learn from")

    async with mcp_session(stack) as session:
        given = {"config": "train.yaml", "client_cwd": str(folder)}
        checked = await session.call("pre_flight_check", **given)
        job = await session.call(
            "run_oumi_job", config_path="train.yaml", client_cwd=str(folder), dry_run=False
        )
        ended = await session.wait(job["job_id"])
    assert "no_label_left" in [error["code"] for error in checked["errors"]]
    assert checked["training_data"] == "All rows were read: 1."
    assert (ended["state"], ended["termination_reason"]) == ("failed", "invalid_config")
    assert "no_label_left" in ended["message"]
