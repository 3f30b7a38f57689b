"""Schedules that fire, on a real engine."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.firings import assert_accounted_for, firings, noting_job
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

SECONDS = 2


async def test_each_firing_is_a_job_or_says_why_not(stack: Stack, tmp_path: Path) -> None:
    # The first outlasts two intervals, the others end at once.
    config = noting_job(tmp_path, "often", "[ $(wc -l < ledger) -gt 1 ] || sleep 5")
    connection = stack.connection
    rest = httpx2.Client(
        base_url=connection.api_url, headers=connection.headers, trust_env=False, timeout=20
    )
    async with mcp_session(stack) as session:
        made = await session.call(
            "schedule_job",
            config_path=str(config),
            client_cwd=str(tmp_path),
            interval_seconds=SECONDS,
            dry_run=False,
        )

        def ended() -> bool:
            seen = firings(rest, made["schedule_id"], tmp_path, by=datetime.now(UTC))
            ends = [firing.end for firing in seen]
            return ends.count("completed") >= 3 and "skipped" in ends

        await eventually(ended, timeout=60, interval=0.2)
        which = {"schedule_id": made["schedule_id"]}
        await session.call("update_schedule", **which, action="pause")
        by = datetime.now(UTC)
        (row,) = [
            row
            for row in (await session.call("list_schedules", limit=100))["schedules"]
            if row["schedule_id"] == made["schedule_id"]
        ]
        status = await session.wait(row["last_run"]["job_id"])
        seen = firings(rest, made["schedule_id"], tmp_path, by=by)
        assert_accounted_for(seen, interval=timedelta(seconds=SECONDS), may_be_skipped=True)
        assert [firing.end for firing in seen][:3] == ["completed", "skipped", "skipped"]
        assert status["name"] == f"often-{seen[-1].at:%Y%m%dT%H%M%SZ}-{seen[-1].job_id[:8]}"
        listed = (await session.call("list_jobs", limit=100))["jobs"]
        assert {firing.job_id for firing in seen} <= {job["job_id"] for job in listed}
        await session.call("update_schedule", **which, action="delete")
        rest.close()


@pytest.mark.slow
async def test_a_pipeline_runs_on_a_schedule_like_a_job(stack: Stack, tmp_path: Path) -> None:
    config = noting_job(tmp_path, "step", "exit 0")
    pipeline = tmp_path / "nightly.yaml"
    pipeline.write_text(
        "steps:\n"
        f"  - {{name: train, config_path: {config.name}}}\n"
        f"  - {{name: evaluate, config_path: {config.name}, needs: [train]}}\n"
    )
    given = {"config_path": str(pipeline), "client_cwd": str(tmp_path), "interval_seconds": SECONDS}
    async with mcp_session(stack) as session:
        made = await session.call("schedule_job", **given, dry_run=False)
        which = {"schedule_id": made["schedule_id"]}
        assert (made["name"], made["command"]) == ("nightly", "pipeline")

        async def row() -> dict[str, Any]:
            listed = (await session.call("list_schedules", limit=100))["schedules"]
            return next(one for one in listed if one["schedule_id"] == made["schedule_id"])

        async def begun() -> str | None:
            last = (await row())["last_run"]
            return last["job_id"] if last and last["state"] in ("running", "succeeded") else None

        job_id = await eventually(begun, timeout=60, interval=0.2)
        await session.call("update_schedule", **which, action="pause")
        status = await session.wait(job_id or "")
        assert (status["state"], status["command"]) == ("succeeded", "pipeline")
        assert [(part["name"], part["state"]) for part in status["parts"]] == [
            ("train", "succeeded"),
            ("evaluate", "succeeded"),
        ]
        found = await row()
        assert (found["command"], found["config_path"]) == ("pipeline", str(pipeline))
        assert (found["state"], found["last_run"]["name"]) == ("paused", status["name"])
        assert status["name"].startswith("nightly-2")
        await session.call("update_schedule", **which, action="delete")
