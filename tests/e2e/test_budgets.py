"""The engine keeps real jobs of this machine within their limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import job_config
from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually
from tests.support.webhook import Webhook, webhook

pytestmark = pytest.mark.engine

SECONDS = 600.0


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


async def over(session: Session, job_id: str) -> dict[str, Any]:
    """The status of a job once it has ended."""

    async def look() -> dict[str, Any] | None:
        status = await session.wait(job_id)
        return status if status["is_done"] else None

    return await eventually(look, timeout=SECONDS)


async def test_a_sweep_is_stopped_at_its_limit_in_hours(stack: Stack, tmp_path: Path) -> None:
    config = job_config(tmp_path, "trial", "sleep 2\necho '{\"loss\": 0.5}'")
    sweep = {
        "config_path": str(config),
        "space": {"envs.LR": list(range(1, 13))},
        "metric": "loss",
        "concurrency": 1,
        "timeout_seconds": 60,
        "max_gpu_hours": 66 / 3600,
    }
    async with mcp_session(stack) as session:
        given = {"client_cwd": str(tmp_path), "sweep": sweep, "dry_run": False}
        answer = await session.call("run_sweep", **given)
        session.submitted.append(answer["job_id"])
        ended = await over(session, answer["job_id"])
        print(ended["summary"])
        assert ended["state"] == "failed"
        assert ended["termination_reason"] == "over_budget"
        assert "were not started. The limit of the whole has" in ended["message"]
        trials = [part["job_id"] for part in ended["parts"]]
        assert 1 <= len(trials) <= 4
        hours = 0.0
        for job_id in trials:
            status = await session.call("get_job_status", job_id=job_id)
            assert status["state"] == "succeeded"
            hours += status["budget"]["gpu_hours"]
        print(f"{len(trials)} of 12 trials ran, {hours * 3600:.1f} of 66 s")
        assert 2 / 3600 <= hours <= 66 / 3600
        budget = await session.call("get_budget")
        month = next(row for row in budget["budgets"] if row["period"] == "month")
        assert month["spent"]["jobs"] >= len(trials)
        assert month["spent"]["gpu_hours"] >= hours


async def test_a_job_that_nears_its_limit_notifies_and_is_ended_there(
    stack: Stack, tmp_path: Path, receiver: Webhook
) -> None:
    config = job_config(tmp_path, "long", "sleep 600")
    async with mcp_session(stack) as session:
        given = {"config_path": str(config), "client_cwd": str(tmp_path), "dry_run": False}
        job = await session.call(
            "run_oumi_job", **given, max_gpu_hours=8 / 3600, notify=receiver.url
        )
        session.submitted.append(job["job_id"])
        ended = await over(session, job["job_id"])
        assert (ended["state"], ended["termination_reason"]) == ("failed", "over_budget")
        assert ended["budget"]["left_gpu_hours"] == 0

        def notified() -> bool:
            states = {message["state"] for message in receiver.of(job["job_id"])}
            return states == {"running", "failed"}

        await eventually(notified, timeout=60)
    warning = next(one for one in receiver.of(job["job_id"]) if one["state"] == "running")
    assert "nears its limit" in warning["text"]
