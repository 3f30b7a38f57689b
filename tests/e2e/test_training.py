"""What a job learns, from its process to a client and to Prefect."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from flows.core.names import HEALTH_EVENT
from mcp_server.engine import Connection
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

DIVERGES = """
for step in 1 2 3 4 5 6; do
  echo "{'loss': $(( 7 - step )).5, 'learning_rate': 0.001, 'step': $step}"
done
for step in 7 8 9 10 11 12; do echo "{'loss': nan, 'grad_norm': nan, 'step': $step}"; done
"""


async def test_a_job_that_diverges_is_seen_by_client_prefect_and_automations(
    stack: Stack, tmp_path: Path
) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump({"name": "diverges", "run": DIVERGES}))
    async with mcp_session(stack) as session:
        job_id = await session.submit(config)
        ended = await session.wait(job_id)
        assert (ended["state"], ended["health"]) == ("succeeded", "bad")
        assert ended["usage"]["cpu_seconds"] >= 0

        metrics = await session.call("get_job_metrics", job_ids=[job_id], keys=["loss"])
        (summary,) = metrics["jobs"][0]["keys"]
        assert summary["series"][:3] == [[1, 6.5], [2, 5.5], [3, 4.5]]
        assert (summary["last"], summary["not_finite"]) == ({"step": 12, "value": "nan"}, 6)

        diagnosis = await session.call("diagnose_job", job_id=job_id)
        assert [finding["kind"] for finding in diagnosis["findings"]] == ["not_finite"]
        assert "step 7" in diagnosis["findings"][0]["evidence"]

    async def page() -> str:
        """The page is drawn after the job's end."""
        of_job = {"key": {"any_": [f"metrics-{job_id}"]}}
        found = await ask(stack.connection, "/artifacts/filter", {"artifacts": of_job})
        return found[0]["data"] if found else ""

    text = await eventually(page, timeout=60)
    assert "Health: **bad**" in text
    assert "data:image/png;base64," in text
    assert "| loss | nan | 12 | 1.5 at step 6 |" in text

    async def event() -> dict[str, Any]:
        of_job = {"any_resource": {"id": [f"prefect.flow-run.{job_id}"]}}
        wanted = {"filter": {**of_job, "event": {"name": [HEALTH_EVENT]}}}
        found = (await ask(stack.connection, "/events/filter", wanted))["events"]
        return found[0] if found else {}

    payload = (await eventually(event, timeout=30))["payload"]
    assert (payload["health"], payload["was"]) == ("bad", None)
    assert payload["findings"] == ["not_finite"]
    assert "not_finite" in json.dumps(payload["summary"])


STAYS_BAD = f"""
{DIVERGES}
sleep 600
"""


async def test_a_job_that_is_to_stop_when_it_does_badly_is_gone_and_says_why(
    stack: Stack, tmp_path: Path
) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump({"name": "stays-bad", "run": STAYS_BAD}))
    async with mcp_session(stack) as session:
        job_id = await session.submit(config, stop_on=["bad"], max_retries=3)
        ended = await session.wait(job_id)
    assert (ended["state"], ended["termination_reason"]) == ("failed", "diverged")
    assert ended["attempt"] == 1
    assert "not_finite" in ended["message"]


async def ask(connection: Connection, path: str, body: dict[str, Any]) -> Any:
    async with httpx2.AsyncClient(
        base_url=connection.api_url, headers=dict(connection.headers), timeout=30
    ) as api:
        answer = await api.post(path, json=body)
        answer.raise_for_status()
        return answer.json()
