"""Filters, notes and tags of jobs, through the tools."""

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.names import is_own_tag
from mcp_server.cli.views import short_ids
from mcp_server.services.jobs.job_filter import JobFilter
from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer

Submit = Callable[..., Awaitable[str]]


@pytest.fixture
def submit(client: Client, config: Path) -> Submit:
    async def submit(**arguments: Any) -> str:
        given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
        return (await ok(client, "run_oumi_job", **(given | arguments)))["job_id"]

    return submit


def ids(page: dict[str, Any]) -> list[str]:
    return [job["job_id"] for job in page["jobs"]]


async def test_a_note_and_tags_are_shown_wherever_the_job_is(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    tag = f"base {uuid.uuid4().hex[:8]}"
    job_id = await submit()
    before = set(prefect.read_run(job_id)["tags"])
    noted = await ok(
        client, "annotate_job", job_id=job_id, note=" lower\nlearning\x1b rate ", tags=[tag, tag]
    )
    assert (noted["note"], noted["tags"]) == ("lower learning rate", [tag])
    assert set(prefect.read_run(job_id)["tags"]) == before | {tag}

    prefect.set_states(job_id, "RUNNING", "FAILED")
    await ok(client, "retry_job", job_id=job_id)
    status = await ok(client, "get_job_status", job_id=job_id)
    assert (status["note"], status["tags"]) == ("lower learning rate", [tag])
    page = await ok(client, "list_jobs", tag=tag)
    (row,) = page["jobs"]
    assert (row["job_id"], row["note"], row["tags"]) == (job_id, "lower learning rate", [tag])

    cleared = await ok(client, "annotate_job", job_id=job_id, note="", tags=[])
    assert (cleared["note"], cleared["tags"]) == ("", [])
    assert set(prefect.read_run(job_id)["tags"]) == before
    assert ids(await ok(client, "list_jobs", tag=tag)) == []


async def test_a_note_is_an_artifact_of_the_run(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = await submit()

    def shown() -> list[str]:
        wanted = {"artifacts": {"flow_run_id": {"any_": [job_id]}, "type": {"any_": ["markdown"]}}}
        return [one["data"] for one in prefect.call("POST", "/artifacts/filter", wanted)]

    for note in ("first", "# <b>second</b>"):
        await ok(client, "annotate_job", job_id=job_id, note=note)
        assert shown() == [f"    {note}"]
    await ok(client, "annotate_job", job_id=job_id, note="")
    assert shown() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "neither note nor tags was given"),
        ({"tags": ["oumi"]}, "sets itself"),
        ({"tags": ["cloud:gcp"]}, "sets itself"),
        ({"tags": ["notify-end:x"]}, "sets itself"),
        ({"tags": ["auto-scheduled"]}, "sets itself"),
        ({"tags": [" \x00 "]}, "0 characters long"),
        ({"tags": ["x" * 51]}, "annotate_job: tags"),
        ({"note": "x" * 1001}, "annotate_job: note"),
        ({"note": "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"}, "holds a secret"),
    ],
)
async def test_a_note_that_cannot_be_kept_is_refused(
    submit: Submit, client: Client, prefect: PrefectServer, arguments: dict[str, Any], text: str
) -> None:
    job_id = await submit()
    before = prefect.read_run(job_id)
    said = await error(client, "annotate_job", job_id=job_id, **arguments)
    assert said.startswith("INVALID_ARGUMENT: ")
    assert text in said
    after = prefect.read_run(job_id)
    assert (after["tags"], after["labels"]) == (before["tags"], before["labels"])


async def test_every_tag_of_a_run_is_known_as_ours(submit: Submit, prefect: PrefectServer) -> None:
    job_id = await submit(notify="https://example.org/hook")
    assert all(is_own_tag(tag) for tag in prefect.read_run(job_id)["tags"])


async def test_jobs_are_found_by_their_model_across_pages(submit: Submit, client: Client) -> None:
    model = f"Org/Model-{uuid.uuid4().hex[:6]}"
    wanted: list[str] = []
    for number in range(5):
        overrides = {"model.model_name": f"{model}-{number}"} if number % 2 == 0 else {}
        job_id = await submit(overrides=overrides)
        if overrides:
            wanted.insert(0, job_id)
    found: list[str] = []
    page = await ok(client, "list_jobs", model=model.lower(), limit=2)
    while True:
        found += ids(page)
        if page["next_cursor"] is None:
            break
        page = await ok(client, "list_jobs", limit=2, cursor=page["next_cursor"])
    assert found == wanted


async def test_a_cursor_keeps_the_filters_and_refuses_others(
    submit: Submit, client: Client
) -> None:
    tag = uuid.uuid4().hex
    for _ in range(3):
        await ok(client, "annotate_job", job_id=await submit(), tags=[tag])
    await submit()
    page = await ok(client, "list_jobs", tag=tag, since="1h", limit=2)
    assert len(page["jobs"]) == 2
    rest = await ok(client, "list_jobs", cursor=page["next_cursor"], limit=2)
    again = await ok(client, "list_jobs", tag=tag, since="1h", cursor=page["next_cursor"], limit=2)
    assert len(rest["jobs"]) == 1
    assert ids(rest) == ids(again)
    text = await error(client, "list_jobs", tag="other", cursor=page["next_cursor"])
    assert text.startswith("INVALID_ARGUMENT: cursor belongs to a list with other filters")


async def test_jobs_are_found_by_their_time(submit: Submit, client: Client) -> None:
    job_id = await submit()
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert job_id in ids(await ok(client, "list_jobs", since="30m"))
    assert ids(await ok(client, "list_jobs", since=later)) == []
    for wrong in ("yesterday", "-2h", "99999999999d", "2026-13-01"):
        text = await error(client, "list_jobs", since=wrong)
        assert text.startswith("INVALID_ARGUMENT: since")


async def test_many_jobs_are_cancelled_by_their_tag(submit: Submit, client: Client) -> None:
    tag = uuid.uuid4().hex
    tagged, other = await submit(), await submit()
    await ok(client, "annotate_job", job_id=tagged, tags=[tag])
    preview = await ok(client, "cancel_jobs", tag=tag, model="tiny", since="1h")
    assert ids(preview) == [tagged]
    assert (await ok(client, "cancel_jobs", tag=tag, confirm=True))["matched"] == 1
    assert (await ok(client, "get_job_status", job_id=other))["state"] == "scheduled"
    text = await error(client, "cancel_jobs", status="dead")
    assert text.startswith("INVALID_ARGUMENT: there is no status 'dead'")


async def test_a_row_has_cost_and_peak_memory(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id, tag = await submit(), uuid.uuid4().hex
    await ok(client, "annotate_job", job_id=job_id, tags=[tag])
    prefect.set_states(job_id, "RUNNING")
    prefect.show_progress(job_id, 10.0, usage='{"ram_peak_bytes": 2e9}')
    prefect.call("PATCH", f"/flow_runs/{job_id}/labels", {"oumi.hourly_price": 3600.0})
    (row,) = (await ok(client, "list_jobs", tag=tag))["jobs"]
    assert row["ram_peak_bytes"] == 2e9
    assert row["cost"] == pytest.approx(row["duration_seconds"], abs=0.01)


def test_a_time_of_a_filter_is_read() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    for text, after in (
        ("2h", now - timedelta(hours=2)),
        ("3d", now - timedelta(days=3)),
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=UTC)),
        ("2026-11-30T12:00:00+02:00", datetime(2026, 11, 30, 10, tzinfo=UTC)),
        ("", None),
    ):
        assert JobFilter.read(now=now, since=text).after == after


async def test_a_name_means_the_newest_job_that_had_it_once_all_have_ended(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    name = f"nightly {uuid.uuid4().hex[:8]}"
    old, new = await submit(job_name=name), await submit(job_name=name)
    prefect.set_states(new, "RUNNING", "FAILED")
    live = await ok(client, "get_job_status", job_id=name)
    assert live["job_id"] == old
    assert "newest" not in live["summary"]

    prefect.set_states(old, "RUNNING", "COMPLETED")
    status = await ok(client, "get_job_status", job_id=name)
    assert status["job_id"] == new
    assert f"the newest job named {name}, {new}" in status["summary"]
    assert "newest" not in (await ok(client, "get_job_status", job_id=new[:8]))["summary"]
    assert (await ok(client, "retry_job", job_id=name))["job_id"] == new
    refused = await error(client, "get_job_status", job_id=f"{name} two")
    assert refused.startswith("JOB_NOT_FOUND: ")


async def test_each_planned_run_of_a_schedule_has_a_prefix_of_its_own(
    client: Client, config: Path
) -> None:
    name = f"hourly {uuid.uuid4().hex[:8]}"
    await ok(
        client,
        "schedule_job",
        config_path=config.name,
        client_cwd=str(config.parent),
        interval_seconds=3600,
        schedule_name=name,
        dry_run=False,
    )
    page = await ok(client, "list_jobs", status="scheduled", limit=100)
    assert sum(job["name"].startswith(f"{name}-20") for job in page["jobs"]) == 5
    planned = ids(page)
    assert len({one[:8] for one in planned}) < len(planned)
    for short, whole in zip(short_ids(planned), planned, strict=True):
        assert (await ok(client, "get_job_status", job_id=short))["job_id"] == whole
