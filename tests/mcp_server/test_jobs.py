"""Jobs through the tools, on a real Prefect server whose worker the tests stand in for."""

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client

from flows.core.models import JobRequest
from flows.core.stopwatch import Instant, Stopwatch
from tests.mcp_server.calls import Submit, error, ok
from tests.mcp_server.prefect_stub import PrefectServer


async def test_a_dry_run_shows_the_plan_and_starts_nothing(client: Client, config: Path) -> None:
    before = await _job_ids(client)
    plan = await ok(client, "run_oumi_job", config_path=config.name, client_cwd=str(config.parent))
    assert plan["dry_run"] is True
    assert plan["job_id"] is None
    assert plan["state"] is None
    assert plan["plan"]["argv"] == ["oumi", "train", "-c", str(config)]
    assert plan["output_dir"] == str(config.parent / "out")
    assert await _job_ids(client) == before


async def _job_ids(client: Client) -> list[str]:
    """The jobs that the server lists; those of other tests go on meanwhile."""
    return [job["job_id"] for job in (await ok(client, "list_jobs"))["jobs"]]


async def test_a_submitted_job_is_a_named_and_tagged_flow_run(
    submit: Submit, prefect: PrefectServer, config: Path
) -> None:
    job = await submit(overrides={"training.max_steps": 7})
    run = prefect.read_run(job["job_id"])
    assert job["state"] == "scheduled"
    assert job["name"] == run["name"] == f"train-tiny-{job['job_id'][:8]}"
    assert set(run["tags"]) == {"oumi", "command:train", "cloud:local"}
    assert run["labels"]["oumi.model_name"] == "tiny"
    assert run["labels"]["oumi.output_dir"] == str(config.parent / "out")
    assert run["labels"]["oumi.attempt"] == 1
    request = JobRequest.model_validate(run["parameters"]["request"])
    assert request.overrides == {"training.max_steps": 7}
    assert request.config_path == str(config)
    assert job["url"] == f"{prefect.ui_url}/runs/flow-run/{job['job_id']}"


async def test_the_run_of_a_job_config_has_its_name(
    submit: Submit, prefect: PrefectServer, config: Path
) -> None:
    path = config.parent / "job.yaml"
    await anyio.Path(path).write_text("name: my-sweep\nresources:\n  cloud: local\nrun: echo\n")
    job = await submit(config_path="job.yaml")
    assert job["name"] == f"my-sweep-{job['job_id'][:8]}"
    job = await submit(config_path="job.yaml", job_name="mine")
    assert job["name"] == "mine"
    assert job["command"] == "job"
    run = prefect.read_run(job["job_id"])
    assert run["name"] == f"mine-{job['job_id'][:8]}"
    assert "command:job" in run["tags"]


async def test_the_config_is_kept_as_it_was_submitted(
    submit: Submit, prefect: PrefectServer, config: Path, tmp_path: Path
) -> None:
    text = await anyio.Path(config).read_text()
    job = await submit()
    await anyio.Path(config).write_text("changed: true\n")
    sha256 = prefect.read_run(job["job_id"])["parameters"]["request"]["config_sha256"]
    assert (tmp_path / "home" / "configs" / f"{sha256}.yaml").read_text() == text


async def test_the_same_key_answers_with_the_same_job(submit: Submit) -> None:
    key = uuid.uuid4().hex
    first, second = await submit(idempotency_key=key), await submit(idempotency_key=key)
    assert first["job_id"] == second["job_id"]
    assert (await submit())["job_id"] != first["job_id"]


async def test_two_submissions_at_once_with_one_key_are_one_job(submit: Submit) -> None:
    key = uuid.uuid4().hex
    jobs = await asyncio.gather(*(submit(idempotency_key=key) for _ in range(5)))
    assert len({job["job_id"] for job in jobs}) == 1


async def test_the_same_key_with_other_arguments_is_a_conflict(
    submit: Submit, client: Client, config: Path
) -> None:
    key = uuid.uuid4().hex
    job = await submit(idempotency_key=key)
    text = await error(
        client,
        "run_oumi_job",
        config_path=str(config),
        client_cwd=str(config.parent),
        dry_run=False,
        idempotency_key=key,
        job_name="another",
    )
    assert text.startswith("CONFLICT: ")
    assert job["job_id"] in text


async def test_the_same_key_with_somebody_else_to_tell_is_a_conflict(
    submit: Submit, client: Client, config: Path
) -> None:
    key = uuid.uuid4().hex
    given = {"config_path": str(config), "client_cwd": str(config.parent), "dry_run": False}
    arguments = {"idempotency_key": key, "notify": "https://example.org/hook"}
    job = await submit(**arguments)
    assert (await submit(**arguments))["job_id"] == job["job_id"]
    for other in (
        {"notify_on": "failure"},
        {"notify": "https://example.org/other"},
        {"notify": None},
    ):
        text = await error(client, "run_oumi_job", **given, **(arguments | other))
        assert text.startswith("CONFLICT: ")
        assert job["job_id"] in text


async def test_a_job_is_found_by_id_prefix_and_name(submit: Submit, client: Client) -> None:
    name = f"My job ünïcode 🚀 a/b.c {uuid.uuid4().hex[:6]}"
    job = await submit(job_name=name)
    job_id = job["job_id"]
    references = [job_id, job_id.upper(), job_id[:8], job_id[:13], job_id.replace("-", "")]
    for reference in [*references, name, job["name"], f"  {job_id}  "]:
        assert (await ok(client, "get_job_status", job_id=reference))["job_id"] == job_id


async def test_a_name_of_two_live_jobs_is_ambiguous(submit: Submit, client: Client) -> None:
    name = f"twin {uuid.uuid4().hex}"
    first, second = await submit(job_name=name), await submit(job_name=name)
    text = await error(client, "get_job_status", job_id=name)
    assert text.startswith("AMBIGUOUS_ID: ")
    assert first["job_id"] in text
    assert second["job_id"] in text


async def test_a_name_means_the_live_job_when_others_have_ended(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    name = f"again {uuid.uuid4().hex}"
    ended, live = await submit(job_name=name), await submit(job_name=name)
    prefect.set_states(ended["job_id"], "RUNNING", "FAILED")
    assert (await ok(client, "get_job_status", job_id=name))["job_id"] == live["job_id"]
    by_run_name = await ok(client, "get_job_status", job_id=f"{name}-{ended['job_id'][:8]}")
    assert by_run_name["job_id"] == ended["job_id"]


@pytest.mark.parametrize(
    "reference", ["nothing like it", "0" * 8, str(uuid.UUID(int=0)), "%", "abc", "jobs://x"]
)
async def test_an_unknown_job_is_not_found(client: Client, reference: str) -> None:
    text = await error(client, "get_job_status", job_id=reference)
    assert text.startswith("JOB_NOT_FOUND: ")


async def test_a_run_of_another_flow_is_not_a_job(client: Client, prefect: PrefectServer) -> None:
    flow = prefect.call("POST", "/flows/", {"name": "foreign"})
    run = prefect.call("POST", "/flow_runs/", {"flow_id": flow["id"]})
    assert (await error(client, "cancel_job", job_id=run["id"])).startswith("JOB_NOT_FOUND: ")


async def test_an_unknown_id_on_an_unknown_cloud_names_those_there_are(client: Client) -> None:
    for tool in ("get_job_status", "get_job_logs", "cancel_job"):
        text = await error(client, tool, job_id="17", cloud="gpc", cluster_name="c")
        assert text.startswith("CLOUD_UNAVAILABLE: Oumi has no cloud named 'gpc'")


async def test_the_launchers_id_of_a_job_of_ours_means_that_job(
    submit: Submit, client: Client, prefect: PrefectServer, config: Path
) -> None:
    (config.parent / "job.yaml").write_text("run: x\n")
    job = await submit(config_path="job.yaml", cloud="gcp", cluster_name="c")
    prefect.label(job["job_id"], cluster_name="c", launcher_job_id="17")
    found = await ok(client, "get_job_status", job_id="17", cloud="gcp", cluster_name="c")
    assert found["job_id"] == job["job_id"]


async def test_a_running_job_tells_its_progress(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING/Launching", "RUNNING")
    prefect.label(
        job_id,
        launcher_job_id="42",
        cluster_name="local",
        log_path="/x/log",
        processes_held_by="control_group",
    )
    prefect.show_progress(
        job_id,
        50.0,
        step="30",
        max_steps="60",
        loss="2.5",
        eta_seconds="9",
        reachable="true",
        observed_at="2026-01-02T03:04:05+00:00",
    )
    status = await ok(client, "get_job_status", job_id=job_id)
    assert next(iter(status)) == "summary"
    assert status["state"] == "running"
    assert status["progress"] == {
        "step": 30,
        "max_steps": 60,
        "percent": 50.0,
        "loss": 2.5,
        "eta_seconds": 9.0,
    }
    assert status["observed_at"] == "2026-01-02T03:04:05Z"
    assert status["launcher_job_id"] == "42"
    assert status["log_path"] == "/x/log"
    assert status["processes_held_by"] == "control_group"
    assert status["duration_seconds"] >= 0
    assert "step 30 of 60; loss 2.5; about 9 s left" in status["summary"]


async def test_a_job_that_cannot_be_observed_is_still_running(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    prefect.show_progress(
        job_id,
        10.0,
        reachable="false",
        unreachable_reason="ssh: connection refused",
        observed_at="2026-01-02T03:04:05",
    )
    status = await ok(client, "get_job_status", job_id=job_id)
    assert (status["state"], status["reachable"], status["is_done"]) == ("running", False, False)
    assert status["message"] == "ssh: connection refused"
    assert status["observed_at"] == "2026-01-02T03:04:05Z"


async def test_a_duration_is_what_was_measured_whatever_the_clock_says(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    for text, measured in (
        ("2 12.500", 12.5),
        (str(Stopwatch(1, 3.0, Instant("another-boot", 0.0, time.time()))), 3.0),
    ):
        prefect.label(job_id, stopwatch=text)
        status = await ok(client, "get_job_status", job_id=job_id)
        assert status["duration_seconds"] == pytest.approx(measured, abs=0.5)
        rows = {row["job_id"]: row for row in (await ok(client, "list_jobs"))["jobs"]}
        assert rows[job_id]["duration_seconds"] == pytest.approx(measured, abs=0.5)


async def test_the_duration_of_a_job_that_lives_is_read_on_the_clock_that_measures_it(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    now = Instant.now()
    began = now._replace(monotonic=now.monotonic - 7.0, wall=now.wall + 86_400.0)
    prefect.label(job_id, stopwatch=str(Stopwatch(1, 2.0, began)))
    status = await ok(client, "get_job_status", job_id=job_id)
    assert 9.0 <= status["duration_seconds"] < 60.0


async def test_a_failed_job_tells_why_and_its_last_lines(
    submit: Submit, client: Client, prefect: PrefectServer, tmp_path: Path
) -> None:
    job_id = (await submit())["job_id"]
    log = tmp_path / "job.log"
    log.write_text("fine\nValueError: too bad\n")
    prefect.label(job_id, log_path=str(log))
    prefect.set_states(
        job_id, "PENDING", "RUNNING", "FAILED", message="out_of_memory: The process was killed."
    )
    status = await ok(client, "get_job_status", job_id=job_id)
    assert (status["state"], status["is_done"]) == ("failed", True)
    assert status["termination_reason"] == "out_of_memory"
    assert status["message"] == "The process was killed."
    assert status["error_tail"].endswith("ValueError: too bad")
    assert status["ended_at"] is not None


async def test_a_failed_job_on_another_machine_has_its_last_lines_from_prefect(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.label(job_id, log_path="/no/such/machine/log")
    prefect.set_states(job_id, "PENDING", "RUNNING", "FAILED")
    prefect.log(job_id, "one", "two")
    assert (await ok(client, "get_job_status", job_id=job_id))["error_tail"] == "one\ntwo"
    page = await ok(client, "get_job_logs", job_id=job_id, lines=1)
    assert (page["logs"], page["at_end"]) == ("two", True)
    page = await ok(client, "get_job_logs", job_id=job_id)
    assert (page["logs"], page["lines_returned"], page["at_end"]) == ("one\ntwo", 2, True)
    assert (await ok(client, "get_job_logs", job_id=job_id, grep="^o"))["logs"] == "one"
    prefect.log(job_id, "three")
    later = await ok(client, "get_job_logs", job_id=job_id, cursor=page["next_cursor"])
    assert (later["logs"], later["lines_returned"], later["at_end"]) == ("three", 1, True)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "cancelled"),
        (["SCHEDULED/AwaitingConcurrencySlot"], "cancelled"),
        (["SCHEDULED/Late"], "cancelled"),
        (["PENDING"], "cancelling"),
        (["PENDING", "RUNNING/Launching"], "cancelling"),
        (["PENDING", "RUNNING"], "cancelling"),
        (["PENDING", "RUNNING", "SCHEDULED/AwaitingRetry"], "cancelled"),
    ],
)
async def test_a_job_is_cancelled_in_every_live_state(
    submit: Submit, client: Client, prefect: PrefectServer, states: list[str], expected: str
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, *states)
    status = await ok(client, "cancel_job", job_id=job_id)
    assert status["state"] == expected
    assert status["termination_reason"] == ("user_cancelled" if expected == "cancelled" else None)


async def test_a_second_cancel_of_a_cancelling_job_is_fine_and_can_force(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    first, second = await asyncio.gather(
        ok(client, "cancel_job", job_id=job_id), ok(client, "cancel_job", job_id=job_id)
    )
    assert first["state"] == second["state"] == "cancelling"
    await ok(client, "cancel_job", job_id=job_id, force=True)
    assert prefect.read_run(job_id)["labels"]["oumi.force_cancel"] is True


async def test_a_cancel_answers_cancelled_when_the_end_is_confirmed_meanwhile(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING", "CANCELLING")
    cancelling = asyncio.create_task(ok(client, "cancel_job", job_id=job_id))
    await asyncio.to_thread(prefect.set_states, job_id, "CANCELLED")
    assert (await cancelling)["state"] == "cancelled"


@pytest.mark.parametrize(
    ("state", "word"),
    [("COMPLETED", "succeeded"), ("FAILED", "failed"), ("CRASHED", "crashed")],
)
async def test_a_job_that_has_ended_cannot_be_cancelled(
    submit: Submit, client: Client, prefect: PrefectServer, state: str, word: str
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING", state)
    text = await error(client, "cancel_job", job_id=job_id, force=True)
    assert text.startswith("JOB_ALREADY_DONE: ")
    assert word in text
    assert prefect.read_run(job_id)["state_type"] == state


async def test_a_failed_job_is_retried_under_the_same_id(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING", "FAILED")
    status = await ok(client, "retry_job", job_id=job_id)
    assert (status["job_id"], status["state"], status["attempt"]) == (job_id, "retrying", 2)
    assert status["ended_at"] is None
    assert "oumi.fresh_attempt" not in prefect.read_run(job_id)["labels"]
    prefect.set_states(job_id, "PENDING", "RUNNING", "CRASHED")
    assert (await ok(client, "retry_job", job_id=job_id))["attempt"] == 3


async def test_after_a_retry_the_progress_of_the_attempt_before_is_gone(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    old = {"step": "40", "max_steps": "60", "loss": "2.5", "reachable": "false", "attempt": "1"}
    prefect.show_progress(job_id, 66.7, **old)
    prefect.set_states(job_id, "FAILED")
    assert (await ok(client, "get_job_status", job_id=job_id))["progress"]["step"] == 40
    nothing = dict.fromkeys(("step", "max_steps", "percent", "loss", "eta_seconds"))
    status = await ok(client, "retry_job", job_id=job_id)
    assert (status["progress"], status["attempt"]) == (nothing, 2)
    assert "step 40" not in status["summary"]
    for state in ("PENDING", "RUNNING/Launching", "RUNNING"):
        prefect.set_states(job_id, state)
        status = await ok(client, "get_job_status", job_id=job_id)
        assert (status["progress"], status["reachable"]) == (nothing, True), state
    prefect.show_progress(job_id, 8.3, step="5", reachable="true", attempt="2")
    assert (await ok(client, "get_job_status", job_id=job_id))["progress"]["step"] == 5


async def test_a_job_that_waits_for_its_next_attempt_shows_no_progress(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    prefect.show_progress(job_id, 66.7, step="40", loss="2.5", reachable="true")
    prefect.set_states(job_id, "SCHEDULED/AwaitingRetry")
    status = await ok(client, "get_job_status", job_id=job_id)
    assert (status["state"], status["progress"]["step"]) == ("retrying", None)


async def test_a_retry_from_the_start_names_the_attempt_and_forgets_an_old_force(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.label(job_id, force_cancel=True)
    prefect.set_states(job_id, "PENDING", "RUNNING", "CANCELLED")
    await ok(client, "retry_job", job_id=job_id, resume=False)
    labels = prefect.read_run(job_id)["labels"]
    assert labels["oumi.fresh_attempt"] == 2
    assert labels["oumi.force_cancel"] is False


@pytest.mark.parametrize("states", [["PENDING", "RUNNING"], ["PENDING", "RUNNING", "COMPLETED"]])
async def test_a_job_that_lives_or_succeeded_is_not_retried(
    submit: Submit, client: Client, prefect: PrefectServer, states: list[str]
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, *states)
    assert (await error(client, "retry_job", job_id=job_id)).startswith("CONFLICT: ")
    assert prefect.read_run(job_id)["state_type"] == states[-1]


async def test_waiting_reports_progress_and_ends_with_the_job(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    prefect.show_progress(job_id, 50.0, step="30", max_steps="60", reachable="true")
    seen: list[tuple[float, float | None, str | None]] = []
    watching = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))
        watching.set()

    waiting = asyncio.create_task(
        client.call_tool(
            "wait_for_job",
            {"job_id": job_id, "timeout_seconds": 20},
            progress_callback=on_progress,
        )
    )
    await watching.wait()
    await asyncio.to_thread(prefect.set_states, job_id, "COMPLETED")
    result = await waiting
    assert result.structured_content is not None
    assert result.structured_content["state"] == "succeeded"
    assert seen[0] == (30.0, 60.0, "running, step 30 of 60")
    assert [value for value, _, _ in seen] == sorted({value for value, _, _ in seen})
    assert (seen[-1][2] or "").startswith("succeeded")


async def test_waiting_returns_the_state_as_it_is_when_the_time_is_up(
    submit: Submit, client: Client
) -> None:
    job_id = (await submit())["job_id"]
    status = await ok(client, "wait_for_job", job_id=job_id, timeout_seconds=0)
    assert (status["state"], status["is_done"]) == ("scheduled", False)


async def test_waiting_until_running_ends_when_it_runs_or_never_will(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    job_id = (await submit())["job_id"]
    prefect.set_states(job_id, "PENDING", "RUNNING")
    for state in ("running", "cancelling"):
        status = await ok(
            client, "wait_for_job", job_id=job_id, until="running", timeout_seconds=20
        )
        assert status["state"] == state
        prefect.set_states(job_id, "CANCELLING")


async def test_lists_are_filtered_by_state_and_cloud(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    ids = [(await submit())["job_id"] for _ in range(6)]
    prefect.set_states(ids[1], "PENDING", "RUNNING/Launching")
    prefect.set_states(ids[2], "SCHEDULED/AwaitingRetry")
    prefect.set_states(ids[3], "SCHEDULED/Late")
    prefect.set_states(ids[4], "PENDING", "RUNNING", "FAILED/TimedOut")
    prefect.set_states(ids[5], "PENDING", "RUNNING")

    async def found(**arguments: Any) -> list[str]:
        page = await ok(client, "list_jobs", limit=100, **arguments)
        return [job["job_id"] for job in page["jobs"] if job["job_id"] in ids]

    assert await found() == ids[::-1]
    assert await found(status="scheduled") == [ids[0]]
    assert await found(status="launching") == [ids[1]]
    assert await found(status="retrying") == [ids[2]]
    assert await found(status="queued") == [ids[3]]
    assert await found(status="failed") == await found(status="completed") == [ids[4]]
    assert await found(status="running") == [ids[5], ids[3], ids[2], ids[1], ids[0]]
    assert await found(status="crashed") == []
    assert await found(cloud="local") == ids[::-1]
    assert await found(cloud="gcp") == []


async def test_pages_of_a_list_hold_each_job_once_though_jobs_are_added(
    submit: Submit, client: Client
) -> None:
    ids = [(await submit())["job_id"] for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while not set(ids) <= set(seen):
        page = await ok(client, "list_jobs", limit=2, cursor=cursor)
        seen += [job["job_id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        await submit()
    assert [job for job in seen if job in ids] == ids[::-1]
    assert len(seen) == len(set(seen))


async def test_the_last_page_has_no_cursor(client: Client) -> None:
    page = await ok(client, "list_jobs", status="crashed", limit=100)
    assert page["next_cursor"] is None


async def test_a_cursor_that_no_list_gave_is_refused(client: Client) -> None:
    for cursor in ("x", "////", "bnVsbA", "W10"):
        text = await error(client, "list_jobs", cursor=cursor)
        assert text.startswith("INVALID_ARGUMENT: cursor ")


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("ftp://example.org/hook", "notify is neither an http(s) URL nor"),
        ("not a block", "notify is neither an http(s) URL nor"),
        ("slack-webhook/none", "'slack-webhook/none', which Prefect does not have"),
    ],
)
async def test_a_receiver_that_cannot_be_notified_is_refused(
    client: Client, config: Path, notify: str, said: str
) -> None:
    line = await error(
        client,
        "run_oumi_job",
        config_path=config.name,
        client_cwd=str(config.parent),
        dry_run=False,
        notify=notify,
    )
    assert line.startswith("INVALID_ARGUMENT: ")
    assert said in line
