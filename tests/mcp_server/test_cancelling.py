"""Many jobs cancelled at once, through the tools, on a real Prefect server."""

import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from mcp.client import Client

from flows.core.errors import EngineUnavailable
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.server import Options, Parts, build_server
from mcp_server.services.jobs.cancelling import Canceller
from mcp_server.services.jobs.job_filter import JobFilter
from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer
from tests.mcp_server.runs_stub import Runs, run_of

Submit = Callable[[str], Awaitable[str]]


@pytest.fixture
def submit(client: Client, config: Path, prefect: PrefectServer) -> Iterator[Submit]:
    jobs: list[str] = []

    async def submit(name: str) -> str:
        given: dict[str, Any] = {"config_path": config.name, "client_cwd": str(config.parent)}
        given |= {"dry_run": False, "own_output": True}  # jobs that live do not share a folder
        jobs.append((await ok(client, "run_oumi_job", job_name=name, **given))["job_id"])
        return jobs[-1]

    yield submit
    for job in jobs:
        prefect.set_states(job, "CANCELLED")


@pytest.fixture
def batch() -> str:
    """What the names of a test's own jobs begin with."""
    return f"batch_{uuid.uuid4().hex[:6]}"


@pytest.fixture
async def six(submit: Submit, prefect: PrefectServer, batch: str) -> dict[str, str]:
    """A job in each of six live states, by state."""
    states = {
        "scheduled": (),
        "queued": ("SCHEDULED/AwaitingConcurrencySlot",),
        "retrying": ("SCHEDULED/AwaitingRetry",),
        "launching": ("PENDING", "RUNNING/Launching"),
        "running": ("PENDING", "RUNNING"),
        "paused": ("PENDING", "RUNNING", "PAUSED"),
    }
    jobs: dict[str, str] = {}
    for word, path in states.items():
        jobs[word] = await submit(f"{batch}-{word}")
        if path:
            prefect.set_states(jobs[word], *path)
    return jobs


@pytest.fixture
async def reader(parts: Parts) -> AsyncIterator[Client]:
    async with Client(build_server(parts, Options(read_only=True))) as connected:
        yield connected


async def test_a_preview_names_the_jobs_and_changes_nothing(
    client: Client, reader: Client, prefect: PrefectServer, six: dict[str, str], batch: str
) -> None:
    for one in (client, reader):
        preview = await ok(one, "cancel_jobs", name=batch)
        assert (preview["matched"], preview["done"], preview["failed"]) == (6, False, 0)
        assert {row["job_id"] for row in preview["jobs"]} == set(six.values())
        assert preview["summary"].startswith(f"6 jobs named {batch!r} would be cancelled: batch_")
        assert preview["summary"].endswith("and 1 more. Nothing was changed.")
    assert prefect.read_run(six["running"])["state_type"] == "RUNNING"
    assert (await error(reader, "cancel_jobs", confirm=True)).startswith("READ_ONLY: ")


async def test_every_live_job_is_cancelled_in_whatever_state_it_is(
    client: Client, prefect: PrefectServer, six: dict[str, str], batch: str
) -> None:
    ended = await ok(client, "cancel_jobs", name=batch.upper(), confirm=True)
    assert (ended["matched"], ended["done"], ended["failed"]) == (6, False, 0)
    states = {row["job_id"]: row["state"] for row in ended["jobs"]}
    assert {word: states[job] for word, job in six.items()} == {
        "scheduled": "cancelled",
        "queued": "cancelled",
        "retrying": "cancelled",
        "launching": "cancelling",
        "running": "cancelling",
        "paused": "cancelling",
    }
    assert ended["summary"] == (
        f"6 jobs named {batch.upper()!r}: 3 cancelled, 3 cancelling. See list_jobs with "
        "status cancelling for those that still end."
    )
    for word in ("launching", "running", "paused"):
        prefect.set_states(six[word], "CANCELLED")
    again = await ok(client, "cancel_jobs", name=batch, confirm=True)
    assert (again["matched"], again["done"]) == (0, True)
    assert again["summary"] == f"No live job named {batch!r}; nothing was changed."


async def test_a_filter_leaves_other_jobs_alone(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    wanted, other, like = [await submit(name) for name in ("some_one", "other-one", "some-one")]
    prefect.set_states(wanted, "PENDING", "RUNNING")
    for arguments in (
        {"status": "queued"},
        {"status": "completed"},
        {"status": "succeeded"},
        {"cloud": "gcp"},
    ):
        none = await ok(client, "cancel_jobs", name="some_one", confirm=True, **arguments)
        assert (none["matched"], none["done"]) == (0, True)
    ended = await ok(client, "cancel_jobs", name="some_one", cloud="local", confirm=True)
    assert [row["job_id"] for row in ended["jobs"]] == [wanted]
    assert {prefect.read_run(job)["state_type"] for job in (other, like)} == {"SCHEDULED"}
    listed = await ok(client, "list_jobs", name="some_one")
    assert [job["job_id"] for job in listed["jobs"]] == [wanted]


async def test_force_reaches_each_of_them(
    submit: Submit, client: Client, prefect: PrefectServer
) -> None:
    jobs = [await submit("forced") for _ in range(2)]
    for job in jobs:
        prefect.set_states(job, "PENDING", "RUNNING")
    await ok(client, "cancel_jobs", name="forced", confirm=True)
    await ok(client, "cancel_jobs", name="forced", confirm=True, force=True)
    assert all(prefect.read_run(job)["labels"]["oumi.force_cancel"] for job in jobs)


def canceller_of(runs: Runs, **arguments: Any) -> Canceller:
    return Canceller(cast("PrefectGateway", runs), **arguments)


async def test_what_cannot_be_asked_is_said_for_each_job() -> None:
    runs = Runs(*(run_of(name) for name in "abc"), refuses=frozenset("b"))
    ended = await canceller_of(runs).cancel_all(JobFilter())
    assert [(row.job_id, row.state, row.error) for row in ended.jobs] == [
        ("b", "running", "ENGINE_UNAVAILABLE: The Prefect server is away. Try again."),
        ("a", "cancelled", ""),
        ("c", "cancelled", ""),
    ]
    assert (ended.matched, ended.failed, ended.done) == (3, 1, False)
    assert ended.summary == ("3 jobs: 2 cancelled; 1 could not be asked to end: job-b (running).")


async def test_an_error_that_meets_every_job_is_an_error() -> None:
    runs = Runs(run_of("a"), run_of("b"), refuses=frozenset("ab"))
    with pytest.raises(EngineUnavailable):
        await canceller_of(runs).cancel_all(JobFilter())


async def test_many_jobs_are_asked_a_few_at_a_time_and_those_that_wait_first() -> None:
    running = [run_of(f"r{number}") for number in range(60)]
    waiting = [run_of(f"w{number}", "SCHEDULED") for number in range(60)]
    runs = Runs(*running, *waiting)
    ended = await canceller_of(runs).cancel_all(JobFilter())
    assert (ended.matched, len(ended.jobs), ended.done) == (120, 30, True)
    assert len(ended.model_dump_json()) < 12_000
    assert 1 < runs.most_at_once <= 8
    assert len(runs.asked) == len(set(runs.asked)) == 120
    assert all(run_id.startswith("w") for run_id in runs.asked[:60])


async def test_jobs_for_which_there_was_no_time_are_left_and_named() -> None:
    clock = itertools.count(0, 15)
    runs = Runs(run_of("a"), run_of("b"))
    ended = await canceller_of(runs, monotonic=lambda: next(clock)).cancel_all(JobFilter())
    assert [(row.job_id, row.error) for row in ended.jobs] == [
        ("b", "CONFLICT: the time was up before it was asked. Call again."),
        ("a", ""),
    ]


def family(run_id: str, command: str, *clouds: str, state: str = "RUNNING") -> FlowRun:
    requests = [{"request": {"cloud": cloud}} for cloud in clouds]
    parameters = {"sweep": requests[0]} if command == "sweep" else {"pipeline": {"parts": requests}}
    tags = ["oumi", f"command:{command}"]
    return run_of(run_id, state, tags=tags, parameters=parameters)


@pytest.mark.parametrize("command", ["sweep", "pipeline"])
async def test_a_family_is_asked_once_and_its_parts_end_with_it(command: str) -> None:
    labels = {"oumi.part_of": "whole"}
    runs = Runs(
        run_of("part", labels=labels), run_of("queued", "SCHEDULED", labels=labels),
        family("whole", command, "local"), run_of("alone"),
    )  # fmt: skip
    preview = await canceller_of(runs).preview(JobFilter(cloud="local"))
    assert {row.job_id: row.part_of for row in preview.jobs} == {
        "part": "whole", "queued": "whole", "whole": None, "alone": None
    }  # fmt: skip
    ended = await canceller_of(runs).cancel_all(JobFilter(cloud="local"))
    assert sorted(runs.asked) == ["alone", "part", "queued", "whole"]
    assert ended.done


async def test_a_pipeline_that_also_runs_elsewhere_only_loses_its_parts_here() -> None:
    runs = Runs(
        family("mixed", "pipeline", "local", "gcp"),
        run_of("here", labels={"oumi.part_of": "mixed"}),
        run_of("there", cloud="gcp", labels={"oumi.part_of": "mixed"}),
    )
    await canceller_of(runs).cancel_all(JobFilter(cloud="local"))
    assert runs.asked == ["here"]


async def test_what_a_schedule_has_planned_is_no_job_that_runs() -> None:
    runs = Runs(run_of("planned", "SCHEDULED", auto_scheduled=True), run_of("submitted"))
    ended = await canceller_of(runs).cancel_all(JobFilter())
    assert [row.job_id for row in ended.jobs] == ["submitted"]


async def test_a_job_that_ends_by_itself_meanwhile_is_no_failure() -> None:
    ended = await canceller_of(Runs(run_of("a"), after="COMPLETED")).cancel_all(JobFilter())
    assert [(row.state, row.error) for row in ended.jobs] == [("succeeded", "")]
    assert (ended.done, ended.summary) == (True, "1 job: 1 succeeded.")


@pytest.mark.parametrize("kind", ["PAUSED/Suspended", "SCHEDULED/Resuming"])
async def test_a_job_paused_in_the_ui_is_cancelled_only_once_it_is_gone(
    submit: Submit, client: Client, prefect: PrefectServer, batch: str, kind: str
) -> None:
    """Prefect by itself takes such a run for one that has no job."""
    job_id = await submit(batch)
    prefect.set_states(job_id, "PENDING", "RUNNING")
    state_type, _, name = kind.partition("/")
    state = {"type": state_type, "name": name, "state_details": {"pause_reschedule": True}}
    prefect.call("POST", f"/flow_runs/{job_id}/set_state", {"state": state, "force": True})
    status = await ok(client, "cancel_job", job_id=job_id)
    assert status["state"] == "cancelling"
    prefect.set_states(job_id, "CANCELLED")
