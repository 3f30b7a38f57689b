"""Receivers get a message when jobs end, by the engine's own Prefect server."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.jobs import job_config
from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually
from tests.support.webhook import Webhook, webhook

pytestmark = pytest.mark.engine

TOLD_SECONDS = 30


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


async def start(session: Session, config: Path, **arguments: object) -> str:
    given = {"config_path": str(config), "client_cwd": str(config.parent), "dry_run": False}
    job = await session.call("run_oumi_job", **given, **arguments)
    session.submitted.append(job["job_id"])
    return job["job_id"]


async def test_whoever_is_named_is_told_how_a_job_ended(
    stack: Stack, tmp_path: Path, receiver: Webhook
) -> None:
    fails = job_config(tmp_path, "fails", "exit 3")
    works = job_config(tmp_path, "works", "exit 0")
    async with mcp_session(stack) as session:
        failed = await start(session, fails, notify=receiver.url)
        worked = await start(session, works, notify=receiver.url)
        await start(session, works)
        quiet = await start(session, works, notify=receiver.url, notify_on="failure")
        loud = await start(session, fails, notify=receiver.url, notify_on="failure")
        for job_id in session.submitted:
            await session.wait(job_id)
        await eventually(
            lambda: all(receiver.of(job_id) for job_id in (failed, worked, loud)),
            timeout=TOLD_SECONDS,
        )
        status = await session.call("get_job_status", job_id=failed)
    (message,) = receiver.of(failed)
    assert message == {
        "text": f"fails-{failed[:8]} has failed: nonzero_exit: {status['message']}",
        "job_id": failed,
        "name": f"fails-{failed[:8]}",
        "state": "failed",
        "message": f"nonzero_exit: {status['message']}",
        "url": message["url"],
    }
    assert message["url"].endswith(f"/runs/flow-run/{failed}")
    assert [body["state"] for body in receiver.of(worked)] == ["succeeded"]
    assert len(receiver.of(loud)) == 1
    assert receiver.of(quiet) == []
    assert len(receiver.received) == 3
    assert_kept_secret(stack)


def assert_kept_secret(stack: Stack) -> None:
    """A URL is in its block alone; the automations, tags and names do not have it."""
    connection = stack.connection
    with httpx2.Client(
        base_url=connection.api_url, headers=connection.headers, trust_env=False, timeout=20
    ) as rest:
        automations = rest.post("/automations/filter", json={"limit": 200}).json()
        names = [one["name"] for one in automations]
        assert len(names) == len(set(names)) == 2
        for path in ("automations", "flow_runs", "block_documents"):
            found = rest.post(f"/{path}/filter", json={"limit": 200}).raise_for_status().text
            assert "hush" not in found


@pytest.mark.slow
async def test_whoever_a_pipeline_a_step_or_a_sweep_names_is_told_of_it_alone(
    stack: Stack, tmp_path: Path, receiver: Webhook
) -> None:
    works = str(job_config(tmp_path, "works", "exit 0"))
    fails = str(job_config(tmp_path, "fails", "exit 3"))
    given = {"client_cwd": str(tmp_path), "dry_run": False}
    steps = [
        {"name": "quiet", "config_path": works, "notify": receiver.url, "notify_on": "failure"},
        {"name": "silent", "config_path": works, "needs": ["quiet"]},
        {"name": "loud", "config_path": fails, "notify": receiver.url, "notify_on": "failure"},
    ]
    sweep = {
        "config_path": works,
        "space": {"envs.A": [1, 2]},
        "search": "grid",
        "metric": "loss",
        "notify": receiver.url,
    }
    async with mcp_session(stack) as session:
        pipeline = await session.call("run_pipeline", **given, steps=steps, notify=receiver.url)
        swept = await session.call("run_sweep", **given, sweep=sweep)
        wholes = [pipeline["job_id"], swept["job_id"]]
        session.submitted.extend(wholes)
        for job_id in wholes:
            await session.wait(job_id)
        status = await session.call("get_job_status", job_id=wholes[0])
        (loud,) = [part["job_id"] for part in status["parts"] if part["name"] == "loud"]
        await eventually(
            lambda: all(receiver.of(job_id) for job_id in (*wholes, loud)), timeout=TOLD_SECONDS
        )
    assert [body["state"] for body in receiver.received] == ["failed"] * 3


@pytest.mark.slow
async def test_the_runs_of_a_schedule_are_told_of_too(
    stack: Stack, tmp_path: Path, receiver: Webhook
) -> None:
    config = job_config(tmp_path, "often", "exit 0")
    async with mcp_session(stack) as session:
        made = await session.call(
            "schedule_job",
            config_path=str(config),
            client_cwd=str(tmp_path),
            interval_seconds=2,
            notify=receiver.url,
            dry_run=False,
        )
        await eventually(lambda: len(receiver.received) >= 2, timeout=TOLD_SECONDS)
        which = {"schedule_id": made["schedule_id"]}
        await session.call("update_schedule", **which, action="delete")
    assert {body["state"] for body in receiver.received} == {"succeeded"}
    assert len({body["job_id"] for body in receiver.received}) == len(receiver.received)
