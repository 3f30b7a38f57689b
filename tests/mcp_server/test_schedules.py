"""Schedules through the tools, on a real Prefect server without a worker."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mcp.client import Client

from flows.core.configs.reader import load_snapshot
from flows.core.models import JobRequest
from flows.core.settings import Settings
from mcp_server.services.schedules.values import When
from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer

Schedule = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def arguments(config: Path) -> dict[str, Any]:
    return {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}


@pytest.fixture
async def schedule(client: Client, prefect: PrefectServer, arguments: dict[str, Any]) -> Schedule:
    async def schedule(**given: Any) -> dict[str, Any]:
        return await ok(client, "schedule_job", **(arguments | given))

    for deployment in prefect.schedules():
        prefect.call("DELETE", f"/deployments/{deployment['id']}")
    return schedule


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def row_of(client: Client, schedule_id: str) -> dict[str, Any]:
    page = await ok(client, "list_schedules", limit=100)
    (row,) = [row for row in page["schedules"] if row["schedule_id"] == schedule_id]
    return row


async def test_a_dry_run_tells_the_next_five_times_and_makes_nothing(
    schedule: Schedule, client: Client
) -> None:
    plan = await schedule(cron="30 2 * * *", timezone="Europe/Zurich", dry_run=True)
    assert plan["dry_run"] is True
    assert plan["schedule_id"] is None
    times = [datetime.fromisoformat(time) for time in plan["next_runs"]]
    assert {time.utcoffset() for time in times} == {timedelta(0)}
    here = [time.astimezone(ZoneInfo("Europe/Zurich")) for time in times]
    assert [f"{time:%H:%M}" for time in here] == ["02:30"] * 5
    assert f"({here[0]:%Y-%m-%d} 02:30 Europe/Zurich)" in plan["summary"]
    assert "oumi train -c" in plan["job_config"]
    assert plan["warnings"][-1].startswith("Not checked yet: free disk, memory, GPUs")
    assert (await ok(client, "list_schedules"))["schedules"] == []


async def test_a_schedule_is_a_deployment_whose_runs_are_jobs(
    schedule: Schedule, client: Client, prefect: PrefectServer, settings: Settings, config: Path
) -> None:
    made = await schedule(
        cron="0 2 * * *", schedule_name="nightly", overrides={"training.max_steps": 7}
    )
    assert made["state"] == "active"
    assert len(made["next_runs"]) == 5
    row = await row_of(client, made["schedule_id"])
    assert row["name"] == "nightly"
    assert row["when"] == "cron 0 2 * * * UTC"
    assert row["next_runs"] == made["next_runs"]
    assert row["last_run"] is None
    run = prefect.runs_of(made["schedule_id"])[0]
    assert set(run["tags"]) >= {"oumi", "command:train", "cloud:local", "oumi-schedule"}
    assert run["labels"]["oumi.output_dir"] == str(config.parent / "out")
    assert run["labels"]["oumi.overlap"] == "skip"
    request = JobRequest.model_validate(run["parameters"]["request"])
    assert request.overrides == {"training.max_steps": 7}
    assert request.config_sha256
    snapshot = load_snapshot(request.config_sha256, settings.snapshots_dir)
    assert "max_steps: 5" in snapshot.text
    assert (await ok(client, "get_job_status", job_id=run["id"]))["state"] == "scheduled"


async def test_each_run_of_a_schedule_has_an_output_folder_of_its_own(
    schedule: Schedule, prefect: PrefectServer, config: Path
) -> None:
    for given, own in (({"interval_seconds": 60}, True), ({"at": in_an_hour()}, False)):
        plan = await schedule(**given, dry_run=True)
        made = await schedule(**given)
        folder = "out/<time>-<id>" if own else "out"
        assert plan["output_dir"] == made["output_dir"] == str(config.parent / folder)
        assert ("--training.output_dir=out/<time>-<id>" in plan["job_config"]) is own
        run = prefect.runs_of(made["schedule_id"])[0]
        assert run["parameters"]["request"]["own_output"] is own
        assert run["labels"]["oumi.output_dir"] == str(config.parent / "out")


async def test_a_single_time_is_one_job_that_exists_at_once(
    schedule: Schedule, client: Client
) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    made = await schedule(at=at.isoformat(), job_name="later")
    status = await ok(client, "get_job_status", job_id=made["job_id"])
    assert status["state"] == "scheduled"
    assert status["name"] == "later"
    assert [datetime.fromisoformat(time) for time in made["next_runs"]] == [at]
    row = await row_of(client, made["schedule_id"])
    assert row["state"] == "active"
    assert [datetime.fromisoformat(time) for time in row["next_runs"]] == [at]


async def test_a_time_without_an_offset_is_one_of_the_time_zone(schedule: Schedule) -> None:
    made = await schedule(at="2099-07-01T02:00", timezone="Europe/Zurich", dry_run=True)
    (time,) = [datetime.fromisoformat(time) for time in made["next_runs"]]
    assert (time, time.utcoffset()) == (datetime(2099, 7, 1, 0, 0, tzinfo=UTC), timedelta(0))
    assert made["when"] == "once, at 2099-07-01T00:00:00+00:00"
    assert "(2099-07-01 02:00 Europe/Zurich)" in made["summary"]


async def test_pausing_a_schedule_leaves_the_runs_of_the_others(
    schedule: Schedule, client: Client, prefect: PrefectServer
) -> None:
    one = await schedule(interval_seconds=600)
    other = await schedule(interval_seconds=600)
    before = prefect.runs_of(other["schedule_id"])
    change = await ok(client, "update_schedule", schedule_id=one["schedule_id"], action="pause")
    assert change["state"] == "paused"
    assert change["next_runs"] == []
    assert prefect.runs_of(one["schedule_id"]) == []
    assert [run["id"] for run in prefect.runs_of(other["schedule_id"])] == [
        run["id"] for run in before
    ]
    assert (await row_of(client, one["schedule_id"]))["state"] == "paused"
    change = await ok(client, "update_schedule", schedule_id=one["schedule_id"], action="resume")
    assert change["state"] == "active"
    assert len(change["next_runs"]) == 5
    # The interval goes on where it was.
    assert set(change["next_runs"]) <= set(one["next_runs"])


async def test_a_single_time_can_be_paused_and_resumed_and_stays_the_same_job(
    schedule: Schedule, client: Client
) -> None:
    made = await schedule(at=in_an_hour())
    which = {"schedule_id": made["schedule_id"]}
    await ok(client, "update_schedule", **which, action="pause")
    status = await ok(client, "get_job_status", job_id=made["job_id"])
    assert (status["state"], status["termination_reason"]) == ("cancelled", "skipped")
    change = await ok(client, "update_schedule", **which, action="resume")
    assert change["next_runs"] == made["next_runs"]
    assert (await ok(client, "get_job_status", job_id=made["job_id"]))["state"] == "scheduled"


async def test_deleting_a_schedule_keeps_the_jobs_that_it_started(
    schedule: Schedule, client: Client, prefect: PrefectServer
) -> None:
    made = await schedule(interval_seconds=600, schedule_name="gone")
    started, waits, *_ = (run["id"] for run in prefect.runs_of(made["schedule_id"]))
    prefect.set_states(started, "PENDING", "RUNNING")
    change = await ok(client, "update_schedule", schedule_id="gone", action="delete")
    assert change["state"] == "deleted"
    assert change["live_jobs"] == [started]
    assert (await ok(client, "get_job_status", job_id=started))["state"] == "running"
    assert "JOB_NOT_FOUND" in await error(client, "get_job_status", job_id=waits)
    assert (await ok(client, "list_schedules"))["schedules"] == []
    assert prefect.runs_of(made["schedule_id"])[1:] == []
    # It can be retried still.
    prefect.set_states(started, "FAILED")
    assert (await ok(client, "retry_job", job_id=started))["state"] == "retrying"
    line = await error(client, "update_schedule", schedule_id="gone", action="delete")
    assert line.startswith("JOB_NOT_FOUND: No schedule has the id or name 'gone'.")


async def test_a_schedule_without_jobs_is_gone_when_it_is_deleted(
    schedule: Schedule, client: Client, prefect: PrefectServer
) -> None:
    made = await schedule(interval_seconds=600)
    await ok(client, "update_schedule", schedule_id=made["schedule_id"], action="delete")
    every = prefect.call("POST", "/deployments/filter", {})
    assert made["schedule_id"] not in [deployment["id"] for deployment in every]


async def test_what_waits_when_a_schedule_is_paused_is_called_skipped(
    schedule: Schedule, client: Client, prefect: PrefectServer
) -> None:
    made = await schedule(interval_seconds=600)
    waiting = prefect.create_run(made["schedule_id"], seconds_ago=10)
    await ok(client, "update_schedule", schedule_id=made["schedule_id"], action="pause")
    status = await ok(client, "get_job_status", job_id=waiting)
    assert (status["state"], status["termination_reason"]) == ("cancelled", "skipped")
    last = (await row_of(client, made["schedule_id"]))["last_run"]
    assert (last["job_id"], last["state"]) == (waiting, "cancelled")


async def test_runs_to_come_hide_no_jobs(
    schedule: Schedule, client: Client, prefect: PrefectServer, arguments: dict[str, Any]
) -> None:
    made = await schedule(interval_seconds=60)
    to_come = {run["id"] for run in prefect.runs_of(made["schedule_id"])}
    job = await ok(client, "run_oumi_job", **arguments)
    for status in ("all", "running"):
        listed = [row["job_id"] for row in (await ok(client, "list_jobs", status=status))["jobs"]]
        assert job["job_id"] in listed
        assert not to_come & set(listed)
    listed = await ok(client, "list_jobs", status="scheduled", limit=100)
    assert to_come & {row["job_id"] for row in listed["jobs"]}


async def test_the_same_key_gives_the_same_schedule(
    schedule: Schedule, client: Client, arguments: dict[str, Any]
) -> None:
    given = {"at": in_an_hour(), "idempotency_key": "once"}
    first = await schedule(**given)
    again = await schedule(**given)
    assert (again["schedule_id"], again["job_id"]) == (first["schedule_id"], first["job_id"])
    for other in ({"overlap": "queue"}, {"notify": "https://example.org/hook"}):
        line = await error(client, "schedule_job", **arguments, **given, **other)
        assert line.startswith("CONFLICT: idempotency_key 'once' belongs to schedule")


async def test_a_name_is_given_once(
    schedule: Schedule, client: Client, arguments: dict[str, Any]
) -> None:
    await schedule(at=in_an_hour(), schedule_name="weekly")
    line = await error(client, "schedule_job", **arguments, at=in_an_hour(), schedule_name="weekly")
    assert line.startswith("CONFLICT: A schedule named 'weekly' exists already")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, "INVALID_ARGUMENT", "none of them"),
        ({"cron": "* * * * *", "at": "2099-01-01"}, "INVALID_ARGUMENT", "cron and at"),
        ({"cron": "0 25 * * *"}, "INVALID_ARGUMENT", "Invalid cron string"),
        ({"cron": "0 0 30 2 *"}, "INVALID_ARGUMENT", "It never fires"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Zurch"}, "INVALID_ARGUMENT", "'Europe/Zurch'"),
        ({"at": "2020-01-01T00:00"}, "INVALID_ARGUMENT", "is past"),
        ({"at": "tomorrow"}, "INVALID_ARGUMENT", "is not a time"),
        ({"interval_seconds": 0}, "INVALID_ARGUMENT", "interval_seconds"),
        ({"cron": "0 2 * * *", "config_path": "no.yaml"}, "CONFIG_NOT_FOUND", "no.yaml"),
        (
            {"cron": "0 2 * * *", "overrides": {"training.max_step": 1}},
            "INVALID_ARGUMENT",
            "max_step",
        ),
    ],
)
async def test_what_cannot_run_is_refused_when_it_is_scheduled(
    client: Client, arguments: dict[str, Any], given: dict[str, Any], code: str, said: str
) -> None:
    line = await error(client, "schedule_job", **(arguments | given))
    assert line.startswith(f"{code}: ")
    assert said in line


async def test_a_scheduled_job_takes_what_a_submitted_one_takes(client: Client) -> None:
    takes = {
        tool.name: set(tool.input_schema["properties"])
        for tool in (await client.list_tools()).tools
    }
    of_schedules = {"cron", "interval_seconds", "at", "timezone", "schedule_name", "overlap"}
    assert takes["schedule_job"] == takes["run_oumi_job"] - {"wait"} | of_schedules


async def test_lists_of_schedules_have_pages(schedule: Schedule, client: Client) -> None:
    made = {(await schedule(at=in_an_hour()))["schedule_id"] for _ in range(3)}
    first = await ok(client, "list_schedules", limit=2)
    second = await ok(client, "list_schedules", limit=2, cursor=first["next_cursor"])
    assert second["next_cursor"] is None
    rows = first["schedules"] + second["schedules"]
    assert {row["schedule_id"] for row in rows} == made
    line = await error(client, "list_schedules", cursor="x")
    assert line.startswith("INVALID_ARGUMENT: cursor")


async def test_the_answer_says_whether_the_engine_starts_by_itself(
    schedule: Schedule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = await schedule(at=in_an_hour())
    assert made["starts_by_itself"] is False
    assert "not set to start by itself after a reboot" in made["summary"]
    wants = tmp_path / "systemd/user/default.target.wants"
    wants.mkdir(parents=True)
    (wants / "oumi-flows.service").symlink_to("../oumi-flows.service")
    made = await schedule(at=in_an_hour())
    assert made["starts_by_itself"] is True
    assert "reboot" not in made["summary"]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(cron="0 2 * * *", timezone="Europe/Zurich"), "cron 0 2 * * * Europe/Zurich"),
        (When(interval_seconds=86_400, timezone="Europe/Zurich"), "every 86400 s Europe/Zurich"),
        (When(interval_seconds=60), "every 60 s UTC"),
    ],
)
def test_the_times_of_a_schedule_are_said_with_their_time_zone(when: When, words: str) -> None:
    assert when.words == words
