"""MCP Tasks over the raw wire, on servers that are killed between polls."""

from pathlib import Path
from typing import Any

import pytest

from tests.mcp_server.prefect_stub import PrefectServer
from tests.mcp_server.test_stdio import Start, Wire, start
from tests.support.waiting import eventually_sync

__all__ = ["start"]

TASKS = "io.modelcontextprotocol/tasks"
PLAIN: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
WITH_TASKS: dict[str, Any] = {"extensions": {TASKS: {}}}
DECLARED = PLAIN | {"io.modelcontextprotocol/clientCapabilities": WITH_TASKS}


def ask(wire: Wire, method: str, meta: dict[str, Any] = DECLARED, **params: Any) -> dict[str, Any]:
    return wire.request(method, {**params, "_meta": meta})


def call(wire: Wire, tool: str, meta: dict[str, Any] = DECLARED, **arguments: Any) -> Any:
    return ask(wire, "tools/call", meta, name=tool, arguments=arguments)["result"]


def get(wire: Wire, task: dict[str, Any]) -> dict[str, Any]:
    return ask(wire, "tasks/get", taskId=task["taskId"])["result"]


@pytest.fixture
def wire(start: Start, prefect: PrefectServer) -> Wire:
    return start(prefect.port)


@pytest.fixture
def run(config: Path) -> dict[str, Any]:
    return {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}


@pytest.fixture
def job_id(wire: Wire, run: dict[str, Any]) -> str:
    return call(wire, "run_oumi_job", **run)["structuredContent"]["job_id"]


def test_the_extension_is_listed(wire: Wire) -> None:
    assert ask(wire, "server/discover")["result"]["capabilities"]["extensions"] == {TASKS: {}}


def test_a_wait_is_a_task_that_ends_with_what_the_call_would_have_answered(
    wire: Wire, job_id: str, prefect: PrefectServer
) -> None:
    prefect.set_states(job_id, "PENDING", "RUNNING")
    facts = {"step": "3", "max_steps": "5", "loss": "2.5", "eta_seconds": "40"}
    prefect.show_progress(job_id, 60, **facts)
    task = call(wire, "wait_for_job", job_id=job_id)
    assert task["resultType"] == "task"
    assert (task["status"], task["ttlMs"]) == ("working", None)
    assert task["pollIntervalMs"] >= 1000
    assert isinstance(task["pollIntervalMs"], int)
    working = get(wire, task)
    assert working["resultType"] == "complete"
    assert {k: v for k, v in working.items() if k not in ("resultType", "_meta")} == {
        k: v for k, v in task.items() if k not in ("resultType", "_meta")
    }
    for words in ("is running", "step 3 of 5", "loss 2.5", "40 s left"):
        assert words in working["statusMessage"]
    prefect.set_states(job_id, "COMPLETED")
    done = get(wire, task)
    assert done["status"] == "completed"
    held = call(wire, "wait_for_job", PLAIN, job_id=job_id)
    for result in (held, done["result"]):
        result.pop("_meta", None)
        result["structuredContent"].pop("observed_at")
        result.pop("content")
    assert done["result"] == held


@pytest.mark.parametrize("tool", ["run_oumi_job", "run_pipeline", "run_sweep"])
def test_a_call_that_starts_and_waits_is_a_task_that_any_server_answers(
    start: Start, prefect: PrefectServer, run: dict[str, Any], tool: str
) -> None:
    arguments: dict[str, Any] = {
        "run_oumi_job": run,
        "run_pipeline": {
            "steps": [{"name": "one", "config_path": "tiny.yaml"}],
            "client_cwd": run["client_cwd"],
            "dry_run": False,
        },
        "run_sweep": {
            "sweep": {
                "config_path": "tiny.yaml",
                "space": {"training.max_steps": [1, 2]},
                "metric": "train_loss",
            },
            "client_cwd": run["client_cwd"],
            "dry_run": False,
        },
    }[tool]
    first = start(prefect.port)
    key: dict[str, Any] = {"idempotency_key": f"task-{run['client_cwd']}-{tool}"}
    plain = call(first, tool, **arguments, **key)
    assert plain["resultType"] == "complete", plain
    task = call(first, tool, **arguments, **key, wait=True)
    assert task["resultType"] == "task", task
    # The answer to a client that asks again after a crash is the same task.
    assert call(first, tool, **arguments, **key, wait=True)["taskId"] == task["taskId"]
    first.process.kill()
    second = start(prefect.port)
    assert get(second, task)["status"] == "working"
    second.process.kill()
    job_id = plain["structuredContent"]["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING", "FAILED", message="out of luck")
    done = get(start(prefect.port), task)
    assert done["status"] == "completed"
    content = done["result"]["structuredContent"]
    assert content["state"] == "failed"
    assert "out of luck" in content["summary"]
    changed = {"state", "summary"}
    assert {k: v for k, v in content.items() if k not in changed} == {
        k: v for k, v in plain["structuredContent"].items() if k not in changed
    }
    assert not done["result"]["isError"]


def test_a_cancelled_task_is_cancelled_when_its_job_is_confirmed_gone(
    wire: Wire, job_id: str, start: Start, prefect: PrefectServer
) -> None:
    prefect.set_states(job_id, "PENDING", "RUNNING")
    task = call(wire, "wait_for_job", job_id=job_id)
    other = start(prefect.port)
    answer = ask(other, "tasks/cancel", taskId=task["taskId"])["result"]
    assert {k for k in answer if k not in ("_meta", "resultType")} == set()
    other.process.kill()
    assert prefect.read_run(job_id)["state"]["type"] == "CANCELLING"
    assert get(wire, task)["status"] == "working"
    prefect.set_states(job_id, "CANCELLED")
    assert get(wire, task)["status"] == "cancelled"
    assert "result" not in ask(wire, "tasks/cancel", taskId=task["taskId"]).get("error", {})


def test_an_ended_task_keeps_its_end_when_the_job_is_retried(
    wire: Wire, job_id: str, prefect: PrefectServer
) -> None:
    done = call(wire, "wait_for_job", job_id=job_id)
    running = call(wire, "wait_for_job", job_id=job_id, until="running")
    assert get(wire, running)["status"] == "working"
    prefect.set_states(job_id, "PENDING", "RUNNING")
    assert get(wire, running)["status"] == "completed"
    assert get(wire, done)["status"] == "working"
    prefect.set_states(job_id, "CANCELLED")
    prefect.set_states(job_id, "SCHEDULED/AwaitingRetry")
    assert get(wire, running)["status"] == "completed"
    assert get(wire, done)["status"] == "cancelled"
    ask(wire, "tasks/cancel", taskId=done["taskId"])
    assert prefect.read_run(job_id)["state"]["type"] == "SCHEDULED"
    again = call(wire, "wait_for_job", job_id=job_id)
    assert get(wire, again)["status"] == "working"


def test_only_a_request_that_declares_the_extension_gets_a_task(
    wire: Wire, job_id: str, prefect: PrefectServer, run: dict[str, Any]
) -> None:
    task = call(wire, "wait_for_job", job_id=job_id)
    held = call(wire, "wait_for_job", PLAIN, job_id=job_id, timeout_seconds=0.1)
    assert held["structuredContent"]["state"] == "scheduled"
    error = ask(wire, "tasks/get", PLAIN, taskId=task["taskId"])["error"]
    assert error["code"] == -32021
    assert TASKS in error["data"]["requiredCapabilities"]["extensions"]
    wrong: dict[str, Any] = run | {"wait": True, "config_path": "none.yaml"}
    assert call(wire, "run_oumi_job", **wrong)["isError"] is True
    assert call(wire, "wait_for_job", job_id="ffffffff")["isError"] is True
    planned: dict[str, Any] = run | {"wait": True, "dry_run": True}
    plan = call(wire, "run_oumi_job", **planned)
    assert plan["structuredContent"]["dry_run"] is True
    now = call(wire, "wait_for_job", job_id=job_id, timeout_seconds=0)
    assert now["structuredContent"]["state"] == "scheduled"
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    over = call(wire, "wait_for_job", job_id=job_id)
    assert over["structuredContent"]["state"] == "succeeded"


def test_a_client_that_declares_it_in_the_handshake_gets_no_task(
    start: Start, prefect: PrefectServer, run: dict[str, Any]
) -> None:
    wire = start(prefect.port)
    wire.request(
        "initialize",
        {
            "protocolVersion": "2025-11-25",
            "capabilities": WITH_TASKS,
            "clientInfo": {"name": "test", "version": "1"},
        },
    )
    wire.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    job = wire.call("run_oumi_job", **run)["structuredContent"]
    held = wire.call("wait_for_job", job_id=job["job_id"], timeout_seconds=0.1)
    assert held["structuredContent"]["state"] == "scheduled"
    assert wire.request("tasks/get", {"taskId": "x"})["error"]["code"] == -32601


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
def test_an_unknown_task_is_an_error(wire: Wire, job_id: str, method: str) -> None:
    task_id = call(wire, "wait_for_job", job_id=job_id)["taskId"]
    strange = task_id.replace(job_id, "ffffffff-ffff-4fff-bfff-ffffffffffff")
    for unknown in ("x", "", "run.done", f"{task_id}0" * 3, strange, "a" * 400):
        answer = ask(wire, method, taskId=unknown, inputResponses={})
        assert answer["error"]["code"] == -32602, unknown
        assert "Traceback" not in answer["error"]["message"]
    assert ask(wire, method)["error"]["code"] == -32602


def test_an_update_is_acknowledged(wire: Wire, job_id: str) -> None:
    task = call(wire, "wait_for_job", job_id=job_id)
    assert "result" in ask(wire, "tasks/update", taskId=task["taskId"], inputResponses={})


def test_a_read_only_server_reads_tasks_and_cancels_none(
    wire: Wire, job_id: str, start: Start, prefect: PrefectServer
) -> None:
    task = call(wire, "wait_for_job", job_id=job_id)
    reader = start(prefect.port, "read-only")
    assert get(reader, task)["status"] == "working"
    error = ask(reader, "tasks/cancel", taskId=task["taskId"])["error"]
    assert error["message"].startswith("READ_ONLY: ")
    assert prefect.read_run(job_id)["state"]["type"] == "SCHEDULED"


def test_a_listener_is_notified_of_its_tasks(
    wire: Wire, job_id: str, prefect: PrefectServer
) -> None:
    task = call(wire, "wait_for_job", job_id=job_id)
    wanted: dict[str, Any] = {
        "notifications": {"taskIds": [task["taskId"], "x"]},
        "_meta": DECLARED,
    }
    wire.send({"jsonrpc": "2.0", "id": "s", "method": "subscriptions/listen", "params": wanted})
    acknowledged = wire.read_line()
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledged["params"]["notifications"] == {"taskIds": [task["taskId"]]}
    assert _next_notification(wire)["status"] == "working"
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    last = eventually_sync(lambda: _if_ended(_next_notification(wire)), timeout=20)
    assert last["result"]["structuredContent"]["state"] == "succeeded"
    assert last["_meta"]["io.modelcontextprotocol/subscriptionId"] == "s"


def _next_notification(wire: Wire) -> dict[str, Any]:
    line = wire.read_line()
    assert line["method"] == "notifications/tasks"
    return line["params"]


def _if_ended(task: dict[str, Any]) -> dict[str, Any] | None:
    return task if task["status"] == "completed" else None
