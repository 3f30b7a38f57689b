"""A pydantic-ai agent that goes from a wish to a running job. Prints one JSON line.

All it knows is what the person says and what tools answer; it writes files as any assistant can.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolCallPart
from scripted import Script, scripted_model

WISH = "Fine-tune a small model on my JSONL. The data is data/train.jsonl, the model data/model."


def script(tools: list[str], cwd: str) -> Script:
    asked: list[str] = []

    def call(name: str, **arguments: Any) -> ToolCallPart:
        assert name in tools
        asked.append(name)
        return ToolCallPart(name, arguments)

    guide = (yield call("get_started"))["guide"]
    assert guide.index("search_configs") < guide.index("validate_config") < guide.index("run_oumi")

    wish = WISH.partition(".")[0]
    path = (yield call("search_configs", query=[wish]))["configs"][0]["path"]
    recipe = yield call("get_config", path=path)
    docs = "TIMEOUT: "
    while isinstance(docs, str) and docs.startswith("TIMEOUT: "):  # the index is made once
        docs = yield ToolCallPart("get_docs", {"query": recipe["datasets"], "limit": 1})
    documented = docs["results"][0]
    assert recipe["datasets"] == ["text_sft_jsonl"]
    assert "text_sft_jsonl" in documented["registered_as"]

    config = recipe["content"].replace(recipe["model_name"], "data/model")
    assert "dataset_path: data/train.jsonl" in config
    config = config.replace("max_steps: 100", "max_stepz: 4000")
    yield call("write_file", path="train.yaml", text=config)

    file = {"config": "train.yaml", "client_cwd": cwd}
    checked = yield call("validate_config", task_type="training", **file)
    wrong, right = checked["errors"][0]["key"], checked["errors"][0]["nearest"]
    config = config.replace(wrong.rpartition(".")[2], right.rpartition(".")[2])
    yield call("write_file", path="train.yaml", text=config)
    valid = (yield call("validate_config", task_type="training", **file))["valid"]
    before = yield call("pre_flight_check", **file)

    run = {"config_path": "train.yaml", "client_cwd": cwd}
    plan = yield call("run_oumi_job", **run)
    job_id = (yield call("run_oumi_job", dry_run=False, **run))["job_id"]
    status = yield call("wait_for_job", job_id=job_id, until="running", timeout_seconds=50)
    return {
        "asked": asked,
        "recipe": path,
        "corrected": [wrong, right],
        "valid": valid,
        "blocking": before["blocking"],
        "findings": [finding["message"] for finding in before["errors"]],
        "argv": plan["plan"]["argv"],
        "job_id": job_id,
        "state": status["state"],
        "model_name": status["model_name"],
    }


async def main(cwd: str, command: str, *args: str) -> None:
    transport = StdioTransport(command, list(args), env=dict(os.environ), keep_alive=False)
    toolset = MCPToolset(transport, tool_error_behavior="failed")
    async with toolset:
        agent = Agent(scripted_model(lambda tools: script(tools, cwd)), toolsets=[toolset])

        @agent.tool_plain
        def write_file(path: str, text: str) -> str:
            """Write a file in the working folder."""
            Path(cwd, path).write_text(text)
            return f"{path} is written."

        print(json.dumps(json.loads((await agent.run(WISH)).output)))


asyncio.run(main(*sys.argv[1:]))
