"""A schedule that a person gives our deployment in the Prefect UI is handled like our own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mcp.client import Client

from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer


@pytest.fixture
def made_in_the_ui(prefect: PrefectServer, config: Path) -> Iterator[str]:
    """The id of a schedule of the deployment of jobs."""
    host = prefect.call("GET", "/deployments/name/oumi-job/default")["id"]
    request = {"config_path": str(config), "client_cwd": str(config.parent), "command": "train"}
    one = {
        "schedule": {"cron": "0 2 * * *", "timezone": "Europe/Zurich"},
        "active": True,
        "slug": f"nightly-{uuid4().hex[:6]}",
        "parameters": {"request": request},
    }
    (made,) = prefect.call("POST", f"/deployments/{host}/schedules", [one])
    yield made["id"]
    for left in prefect.call("GET", f"/deployments/{host}/schedules"):
        prefect.call("DELETE", f"/deployments/{host}/schedules/{left['id']}")


async def rows(client: Client) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    cursor = None
    while True:
        page = await ok(client, "list_schedules", limit=3, cursor=cursor)
        found |= {row["schedule_id"]: row for row in page["schedules"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_it_is_listed_paused_resumed_and_deleted(
    client: Client, prefect: PrefectServer, made_in_the_ui: str, config: Path
) -> None:
    row = (await rows(client))[made_in_the_ui]
    assert row["name"].startswith("nightly-")
    assert (row["state"], row["when"]) == ("active", "cron 0 2 * * * Europe/Zurich")
    assert (row["command"], row["config_path"]) == ("train", str(config))
    assert len(row["next_runs"]) == 5

    async def change(action: str, reference: str) -> dict[str, Any]:
        return await ok(client, "update_schedule", schedule_id=reference, action=action)

    assert (await change("pause", made_in_the_ui))["state"] == "paused"
    assert (await rows(client))[made_in_the_ui]["state"] == "paused"
    host = prefect.call("GET", "/deployments/name/oumi-job/default")
    assert host["paused"] is False
    resumed = await change("resume", row["name"])
    assert resumed["state"] == "active"
    assert resumed["next_runs"]
    await change("delete", made_in_the_ui)
    assert made_in_the_ui not in await rows(client)
    assert prefect.call("GET", f"/deployments/{host['id']}/schedules") == []


async def test_its_runs_are_those_that_it_started(
    client: Client, prefect: PrefectServer, made_in_the_ui: str
) -> None:
    host = prefect.call("GET", "/deployments/name/oumi-job/default")["id"]
    prefect.create_run(host, seconds_ago=60)  # of a person, not of the schedule
    assert (await rows(client))[made_in_the_ui]["last_run"] is None
