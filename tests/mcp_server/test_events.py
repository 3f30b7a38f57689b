"""Events of one or several jobs that cannot be missed."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from mcp.client import Client

from flows.core.errors import InvalidArgument
from flows.core.models import JobProgress, JobStatus
from flows.core.states import Health, JobState
from mcp_server.server import Parts
from mcp_server.services.jobs.news import Place
from mcp_server.services.jobs.wait_conditions import WaitCondition
from tests.mcp_server.calls import Submit, error, ok
from tests.mcp_server.prefect_stub import PrefectServer
from tests.mcp_server.runs_stub import NOON


def seen(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(event["job_id"], event["state"]) for event in answer["events"]]


async def two(submit: Submit) -> tuple[str, str]:
    """Two jobs that wait for a worker."""
    return (await submit(job_name="one"))["job_id"], (await submit(job_name="two"))["job_id"]


async def test_two_jobs_that_end_together_are_two_events(
    client: Client, submit: Submit, prefect: PrefectServer
) -> None:
    one, other = await two(submit)
    first = await ok(client, "wait_for_job", job_ids=[one, other], timeout_seconds=0)
    assert set(first["waiting_for"]) == {one, other}
    for job in (one, other):
        prefect.set_states(job, "PENDING", "RUNNING", "COMPLETED")
    again = {"job_ids": [one, other], "mode": "any", "cursor": first["next_cursor"]}

    ended = await ok(client, "wait_for_job", **again)

    assert {event for event in seen(ended) if event[1] == "succeeded"} == {
        (one, "succeeded"),
        (other, "succeeded"),
    }
    assert seen(ended) == sorted(seen(ended), key=lambda event: event[0] != one)
    assert ended["summary"].startswith("2 of 2 jobs are there: ")
    assert ended["waiting_for"] == []
    # Not acknowledged: delivered again. Acknowledged: not.
    assert seen(await ok(client, "wait_for_job", **again)) == seen(ended)
    after = await ok(client, "wait_for_job", **(again | {"cursor": ended["next_cursor"]}))
    assert after["events"] == []


async def test_any_returns_for_each_job_once(
    client: Client, submit: Submit, prefect: PrefectServer
) -> None:
    one, other = await two(submit)
    prefect.set_states(one, "RUNNING", "FAILED")
    wanted: dict[str, Any] = {"job_ids": [one, other], "mode": "any"}
    first = await ok(client, "wait_for_job", **wanted, timeout_seconds=20)
    assert (first["job_id"], first["state"]) == (one, "failed")
    assert first["waiting_for"] == [other]

    cursor = first["next_cursor"]
    held = asyncio.create_task(ok(client, "wait_for_job", **wanted, cursor=cursor))
    prefect.set_states(other, "RUNNING", "COMPLETED")
    second = await held
    assert (second["job_id"], second["state"]) == (other, "succeeded")
    assert (one, "failed") not in seen(second)

    # A job that was retried ends once more.
    prefect.set_states(one, "SCHEDULED/AwaitingRetry", "RUNNING", "COMPLETED")
    third = await ok(client, "wait_for_job", **wanted, cursor=second["next_cursor"])
    assert (third["job_id"], third["state"]) == (one, "succeeded")
    assert [state for job, state in seen(third) if job == one] == [
        "retrying",
        "running",
        "succeeded",
    ]


async def test_all_waits_for_the_last(
    client: Client, submit: Submit, prefect: PrefectServer
) -> None:
    one, other = await two(submit)
    prefect.set_states(one, "RUNNING", "COMPLETED")
    half = await ok(client, "wait_for_job", job_ids=[one, other], timeout_seconds=0.5)
    assert half["waiting_for"] == [other]
    assert half["summary"].startswith("1 of 2 jobs are there: ")


async def test_one_job_has_its_events_too(
    client: Client, submit: Submit, prefect: PrefectServer
) -> None:
    job = (await submit())["job_id"]
    prefect.set_states(job, "PENDING", "RUNNING", "COMPLETED", message="completed: It finished.")
    ended = await ok(client, "wait_for_job", job_id=job)
    assert [state for _, state in seen(ended)] == [
        "scheduled",
        "pending",
        "running",
        "succeeded",
    ]
    assert ended["events"][-1]["text"].endswith("is succeeded; It finished.")
    after = await ok(client, "wait_for_job", job_id=job, cursor=ended["next_cursor"])
    assert after["events"] == []


async def test_a_condition_ends_the_wait(
    client: Client, submit: Submit, prefect: PrefectServer
) -> None:
    job = (await submit())["job_id"]
    prefect.set_states(job, "RUNNING")
    prefect.show_progress(job, 10.0, step="6", loss="2.5", health="warning", reachable="true")
    wanted: dict[str, Any] = {"job_id": job, "timeout_seconds": 0.5}
    for condition, is_there in (
        ("step >= 6", True),
        ("step > 6", False),
        ("loss < 3", True),
        ("health warning", True),
        ("health bad", False),
        ("state running", True),
    ):
        answer = await ok(client, "wait_for_job", **wanted, condition=condition)
        assert (answer["waiting_for"] == []) is is_there, condition
        assert answer["state"] == "running"
    # A job that has ended will not meet it any more.
    prefect.set_states(job, "FAILED")
    answer = await ok(client, "wait_for_job", **wanted, condition="step > 100")
    assert answer["waiting_for"] == []
    assert answer["state"] == "failed"


async def test_a_pipeline_has_the_events_of_its_steps(
    client: Client, prefect: PrefectServer, submit: Submit, parts: Parts
) -> None:
    whole = (await submit(job_name="whole"))["job_id"]
    prefect.set_states(whole, "RUNNING")
    flow = prefect.call("POST", "/flows/", {"name": "oumi-job"})["id"]
    task = prefect.call(
        "POST", "/task_runs/", {"flow_run_id": whole, "task_key": "step", "dynamic_key": "0"}
    )
    step = prefect.call(
        "POST",
        "/flow_runs/",
        {
            "flow_id": flow,
            "name": "step",
            "parent_task_run_id": task["id"],
            "tags": ["oumi"],
            "state": {"type": "RUNNING"},
        },
    )["id"]
    body = {"tags": ["oumi", "command:pipeline"]}
    prefect.call("PATCH", f"/flow_runs/{whole}", body)
    prefect.set_states(step, "COMPLETED")
    answer = await ok(client, "wait_for_job", job_ids=[whole], mode="any", timeout_seconds=0.2,
                      condition="step > 1")  # fmt: skip
    assert (step, "succeeded") in seen(answer)
    assert answer["waiting_for"] == [whole]


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({}, "no job is named"),
        ({"condition": "loss"}, "cannot be read"),
        ({"condition": "loss < low"}, "compares with no number"),
        ({"condition": "health terrible"}, "is no health"),
        ({"condition": "state < running"}, "cannot be < a word"),
        ({"cursor": "no cursor"}, "cursor is not one that wait_for_job gave"),
    ],
)
async def test_what_cannot_be_waited_for_is_refused(
    client: Client, submit: Submit, wanted: dict[str, Any], what: str
) -> None:
    named = {"job_id": (await submit())["job_id"]} if wanted else {}
    line = await error(client, "wait_for_job", **named, **wanted)
    assert line.startswith("INVALID_ARGUMENT: ")
    assert what in line


async def test_many_jobs_cost_one_query_a_look(
    client: Client, submit: Submit, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [(await submit(job_name=f"job-{number}"))["job_id"] for number in range(12)]
    first = await ok(client, "wait_for_job", job_ids=jobs, timeout_seconds=0)
    reads: list[str] = []
    read_states = parts.gateway.read_states

    async def count(run_id: str) -> Any:
        reads.append(run_id)
        return await read_states(run_id)

    monkeypatch.setattr(parts.gateway, "read_states", count)
    wanted = {"job_ids": jobs, "cursor": first["next_cursor"], "timeout_seconds": 2}
    await ok(client, "wait_for_job", **wanted)
    assert reads == []


def test_a_cursor_of_many_jobs_is_short_enough() -> None:
    ids = [UUID(int=number * 2**80).hex[:12] for number in range(120)]
    place = Place(
        states=dict.fromkeys(ids, 1_900_000_000_000_000),
        health=set(ids[:20]),
        health_since=1_900_000_000.25,
        met=set(ids[:20]),
    )
    cursor = place.write()
    assert len(cursor) <= 8192
    assert Place.read(cursor) == place


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("eval_loss < 0.5", 0.4, True),
        ("eval_loss<0.5", 0.5, False),
        ("eval_loss < 0.5", float("nan"), False),
        ("eval_loss != 0.5", float("nan"), False),
        ("eval_loss < inf", 1.0, True),
        ("reward >= -1e-3", 0.0, True),
        ("reward >= 1", None, False),
    ],
)
def test_a_condition_compares_numbers(text: str, value: float | None, *, holds: bool) -> None:
    condition = WaitCondition.read(text)
    assert condition.is_of_metrics
    assert condition.holds(value) is holds


def test_a_condition_reads_what_a_status_has() -> None:
    status = JobStatus(
        summary="",
        job_id="1",
        name="a",
        state=JobState.RUNNING,
        is_done=False,
        reachable=True,
        observed_at=NOON,
        health=Health.BAD,
        progress=JobProgress(step=3, loss=float("nan")),
    )
    found = {
        text: WaitCondition.read(text).holds(WaitCondition.read(text).value_of(status))
        for text in ("health == 'bad'", "health != bad", "state running", "step 3", "loss < 9")
    }
    assert list(found.values()) == [True, False, True, True, False]
    with pytest.raises(InvalidArgument):
        WaitCondition.read("; rm -rf")
