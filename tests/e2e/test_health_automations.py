"""Prefect's automations act on the health of a running job: a notification, and a person's own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from flows.core.names import HEALTH_EVENT
from tests.e2e.test_training import STAYS_BAD
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually
from tests.support.webhook import Webhook, webhook

pytestmark = pytest.mark.engine

TOLD_SECONDS = 60


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture
async def rest(stack: Stack) -> AsyncIterator[httpx2.AsyncClient]:
    """Prefect's API; the automations that a test leaves are deleted."""
    async with httpx2.AsyncClient(
        base_url=stack.connection.api_url, headers=dict(stack.connection.headers), timeout=30
    ) as api:
        before = await automations(api)
        yield api
        for automation_id in await automations(api) - before:
            (await api.delete(f"/automations/{automation_id}")).raise_for_status()


async def automations(api: httpx2.AsyncClient) -> set[str]:
    found = (await api.post("/automations/filter", json={"limit": 200})).raise_for_status()
    return {one["id"] for one in found.json()}


def bad_job(folder: Path) -> Path:
    config = folder / "job.yaml"
    config.write_text(yaml.safe_dump({"name": "stays-bad", "run": STAYS_BAD}))
    return config


async def test_a_receiver_hears_of_a_job_that_runs_badly_while_it_runs(
    stack: Stack, tmp_path: Path, receiver: Webhook, rest: httpx2.AsyncClient
) -> None:
    assert not rest.is_closed
    async with mcp_session(stack) as session:
        job_id = await session.submit(bad_job(tmp_path), notify=receiver.url, notify_on="bad")
        await eventually(lambda: receiver.of(job_id), timeout=TOLD_SECONDS)
        status = await session.call("get_job_status", job_id=job_id)
    assert (status["state"], status["health"]) == ("running", "bad")
    (message,) = receiver.of(job_id)
    assert message["state"] == "running"
    assert "runs badly" in message["text"]
    assert "not_finite" in message["message"]


# docs/diagnosis.md shows this automation.
CANCELS: dict[str, Any] = {
    "name": "End trainings that do badly",
    "trigger": {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*", "oumi.health": "bad"},
        "expect": [HEALTH_EVENT],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    },
    "actions": [{"type": "cancel-flow-run"}],
}


async def test_an_automation_of_a_person_ends_a_job_that_does_badly(
    stack: Stack, tmp_path: Path, rest: httpx2.AsyncClient
) -> None:
    (await rest.post("/automations/", json=CANCELS)).raise_for_status()
    async with mcp_session(stack) as session:
        job_id = await session.submit(bad_job(tmp_path))
        ended = await session.call("wait_for_job", job_id=job_id, timeout_seconds=80)
    assert (ended["state"], ended["termination_reason"]) == ("cancelled", "user_cancelled")
