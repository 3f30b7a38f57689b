"""Calls that are held while a job runs, in both protocol eras, without and with MCP Tasks."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp.client import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp_types import CallToolResult, Result

from flows.core.errors import EngineUnavailable
from mcp_server.server import Options, Parts, build_server
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer
from tests.support.waiting import eventually

MODES: list[Literal["auto", "legacy"]] = ["auto", "legacy"]


@pytest.fixture
def run(config: Path) -> dict[str, Any]:
    return {
        "config_path": config.name,
        "client_cwd": str(config.parent),
        "dry_run": False,
        "idempotency_key": str(config),
    }


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_that_starts_a_job_is_held_until_it_ends(
    parts: Parts, run: dict[str, Any], prefect: PrefectServer, mode: Literal["auto", "legacy"]
) -> None:
    seen: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message)

    async with Client(build_server(parts, Options()), mode=mode) as client:
        job = await ok(client, "run_oumi_job", **run)
        held = asyncio.create_task(
            client.call_tool("run_oumi_job", run | {"wait": True}, progress_callback=on_progress)
        )
        await eventually(lambda: "scheduled" in seen, timeout=20)
        await asyncio.to_thread(prefect.set_states, job["job_id"], "PENDING", "RUNNING", "FAILED")
        answer = (await held).structured_content
    assert answer is not None
    assert answer["state"] == "failed"
    assert answer | {"state": "", "summary": ""} == job | {"state": "", "summary": ""}


async def test_a_job_whose_wait_fails_is_answered_all_the_same(
    client: Client, parts: Parts, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise EngineUnavailable("The engine is away", "Ask again")

    monkeypatch.setattr(parts.jobs, "wait", fail)
    assert (await ok(client, "run_oumi_job", **run, wait=True))["job_id"]


async def test_no_wait_is_held_beyond_25_seconds_by_default(client: Client) -> None:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    wait = tools["wait_for_job"].input_schema["properties"]["timeout_seconds"]
    assert (wait["default"], wait["maximum"]) == (25, 300)
    assert "wait" not in tools["schedule_job"].input_schema["properties"]
    for name in ("run_oumi_job", "run_pipeline", "run_sweep"):
        assert tools[name].input_schema["properties"]["wait"]["type"] == "boolean"


class Task(Result):
    """A task, as a client of the extension reads it."""

    result_type: Literal["task"] = "task"  # pyright: ignore[reportIncompatibleVariableOverride]
    task_id: str


class Tasks(ClientExtension):
    """Notes which tasks its client gets."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.ids: list[str] = []

    def claims(self) -> list[ResultClaim[Any]]:
        async def resolve(task: Task, *_: Any) -> CallToolResult:
            self.ids.append(task.task_id)
            return CallToolResult(content=[], is_error=True)

        return [ResultClaim(result_type="task", model=Task, resolve=resolve)]


@pytest.mark.parametrize("mode", MODES)
async def test_the_sdk_s_client_gets_a_task_in_the_era_that_has_them(
    parts: Parts, run: dict[str, Any], mode: Literal["auto", "legacy"]
) -> None:
    tasks = Tasks()
    server = build_server(parts, Options())
    async with Client(server, mode=mode, extensions=[tasks]) as client:
        job = await ok(client, "run_oumi_job", **run)
        await client.call_tool("wait_for_job", {"job_id": job["job_id"], "timeout_seconds": 0.1})
    (task_id,) = tasks.ids or [""]
    assert task_id.startswith(f"wait_for_job.done.{job['job_id']}.") is (mode == "auto")
