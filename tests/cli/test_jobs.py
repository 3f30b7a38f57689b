import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mcp.client import Client

from flows.core.errors import ConfigNotFound, ErrorCode, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import JobState
from mcp_server.cli.exits import EXIT_OF_ERROR, EXIT_OF_STATE, MEANING, Exit
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.jobs.results import Adoption
from mcp_server.services.jobs.service import JobService
from tests.cli.conftest import Terminal
from tests.mcp_server.calls import ok
from tests.support.logs import write_log

PASSING = {"observed_at", "duration_seconds"}
"""What differs from one look to the next."""


@pytest.fixture
def name() -> str:
    """A name that no other job on the server has."""
    return f"job {uuid4().hex}"


def tool(terminal: Terminal, settings: Settings, called: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers with, on the same engine."""

    async def call() -> dict[str, Any]:
        parts = make_parts(settings, lambda **_: terminal.prefect)
        async with Client(build_server(parts, Options())) as client:
            return await ok(client, called, **arguments)

    return asyncio.run(call())


def lasting(status: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in status.items() if key not in PASSING}


def test_every_error_code_and_every_end_of_a_job_has_an_exit_code() -> None:
    assert set(EXIT_OF_ERROR) == set(ErrorCode)
    assert set(EXIT_OF_STATE) == {state for state in JobState if state.is_terminal}
    assert set(MEANING) == set(Exit)


def test_jobs_are_listed_with_a_short_id_and_no_markup_is_read_in_names(
    terminal: Terminal, name: str
) -> None:
    name = f"[red] {name}"
    terminal.submit("--job-name", name)
    job_id = terminal.submit("--job-name", name)
    terminal.into("RUNNING")(job_id)
    done = terminal("jobs", "--name", name, "--limit", "1")
    assert done.code == 0
    header, row = done.out.splitlines()
    assert header.split() == ["ID", "STATE", "NAME", "CREATED", "DURATION", "MODEL", "CLOUD"]
    assert re.match(rf"{job_id[:8]}  running  {re.escape(name)}  \d{{4}}-\d\d-\d\d", row)
    assert re.search(r"\d:\d\d:\d\d +tiny +local$", row.rstrip())
    assert done.err.startswith("There are more: add --cursor ")


def test_jobs_are_filtered_and_listed_page_by_page(terminal: Terminal, name: str) -> None:
    first, second, third = [terminal.submit("--job-name", name) for _ in range(3)]
    terminal.into("RUNNING", "FAILED")(second)
    terminal.into("RUNNING", "COMPLETED")(third)

    def ids(*options: str) -> list[str]:
        return [
            job["job_id"]
            for job in terminal("jobs", "--name", name, *options, "--json").json["jobs"]
        ]

    assert ids("--status", "failed") == [second]
    assert ids("--status", "completed") == [third, second]
    assert ids("--cloud", "gcp") == []
    page = terminal("jobs", "--name", name, "--limit", "2", "--json").json
    assert [job["job_id"] for job in page["jobs"]] == [third, second]
    assert ids("--cursor", page["next_cursor"]) == [first]


def test_an_empty_list_says_so_on_stderr(terminal: Terminal, name: str) -> None:
    done = terminal("jobs", "--name", name)
    assert (done.code, done.out, done.err) == (0, "", f"0 jobs named {name!r}.\n")


@pytest.mark.parametrize("arguments", [("--status", "odd"), ("--limit", "0"), ("--limit", "101")])
def test_jobs_refuses_what_the_tool_refuses(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    done = terminal("jobs", *arguments)
    assert done.code == 2
    assert done.err.startswith("INVALID_ARGUMENT: Invalid value for ")


def test_show_says_everything_that_is_known(terminal: Terminal, folder: Path) -> None:
    job_id = terminal.submit()
    log = write_log(folder, job_id, "Traceback ...\nValueError: no\n")
    terminal.prefect.label(job_id, log_path=str(log))
    terminal.into("RUNNING", "FAILED", message="nonzero_exit: It exited with 1")(job_id)
    done = terminal("show", job_id[:8])
    assert done.code == 0
    for text in (job_id, "nonzero_exit", f"{folder}/tiny.yaml", str(log), "ValueError"):
        assert text in done.out


@pytest.mark.parametrize(
    ("arguments", "called"), [(("show",), "get_job_status"), (("logs",), "get_job_logs")]
)
def test_json_is_what_the_tool_answers_with(
    terminal: Terminal, folder: Path, tmp_path: Path, arguments: tuple[str, ...], called: str
) -> None:
    job_id = terminal.submit()
    terminal.into("RUNNING")(job_id)
    log = write_log(folder, job_id, "a\n")
    terminal.prefect.label(job_id, log_path=str(log))
    done = terminal(*arguments, job_id, "--json")
    assert (done.code, done.err) == (0, "")
    settings = Settings(home=tmp_path / "home")
    assert lasting(done.json) == lasting(tool(terminal, settings, called, job_id=job_id))
    assert done.out.count("\n") == 1


def test_json_of_a_list_is_what_the_tool_answers_with(
    terminal: Terminal, tmp_path: Path, name: str
) -> None:
    terminal.submit("--job-name", name)
    done = terminal("jobs", "--name", name, "--json")
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    settings = Settings(home=tmp_path / "home")
    assert done.json == tool(terminal, settings, "list_jobs", name=name)


def test_cancel_and_retry_as_json_answer_with_the_status(terminal: Terminal) -> None:
    job_id = terminal.submit()
    cancelled = terminal("cancel", job_id, "--json")
    assert (cancelled.code, cancelled.err) == (0, "")
    assert lasting(cancelled.json) == lasting(terminal("show", job_id, "--json").json)
    assert cancelled.json["state"] == "cancelled"
    retried = terminal("retry", job_id, "--json")
    assert (retried.code, retried.err) == (0, "")
    assert lasting(retried.json) == lasting(terminal("show", job_id, "--json").json)
    assert retried.json["state"] == "retrying"


def test_cancel_does_not_wait_unless_told(terminal: Terminal, name: str) -> None:
    job_id = terminal.submit("--job-name", name)
    terminal.into("PENDING", "RUNNING")(job_id)
    done = terminal("cancel", job_id, "--force")
    assert (done.code, done.out) == (0, f"{name} is cancelling; Cancellation was requested.\n")
    assert terminal.prefect.read_run(job_id)["labels"]["oumi.force_cancel"] is True


def test_cancel_wait_returns_when_the_job_is_gone(terminal: Terminal, name: str) -> None:
    job_id = terminal.submit("--job-name", name)
    terminal.into("PENDING", "RUNNING")(job_id)
    nothing = [lambda _: None] * 6
    terminal.steps += [*nothing, terminal.into("CANCELLED")]
    done = terminal("cancel", job_id, "--wait")
    assert (done.code, done.out) == (0, f"{name} is cancelled; user_cancelled\n")
    assert not terminal.steps


def test_cancel_of_a_job_that_was_quicker_is_an_error(terminal: Terminal, name: str) -> None:
    job_id = terminal.submit("--job-name", name)
    terminal.into("PENDING", "RUNNING")(job_id)
    terminal.steps += [lambda _: None, terminal.into("COMPLETED")]
    done = terminal("cancel", job_id, "--wait")
    assert done.code == 6
    assert done.err.startswith(f"JOB_ALREADY_DONE: {name} ended before")


def test_without_a_person_many_jobs_are_only_named(terminal: Terminal, name: str) -> None:
    queued, other = [terminal.submit("--job-name", name) for _ in range(2)]
    terminal.into("PENDING")(other)
    done = terminal("cancel", "--all", "--status", "scheduled", "--name", name)
    assert done.code == 6
    preview, error = done.err.splitlines()
    assert preview.startswith(f"1 job in state scheduled named {name!r} would be cancelled: ")
    assert preview.endswith("Nothing was changed.")
    assert error == (
        "CONFIRMATION_REQUIRED: No job was cancelled. Give --yes to cancel them without a question."
    )
    states = [terminal.prefect.read_run(job)["state"]["type"] for job in (queued, other)]
    assert states == ["SCHEDULED", "PENDING"]
    assert terminal("cancel", "--all", "--cloud", "gcp", "--name", name).code == 0


def test_many_jobs_are_cancelled_and_waited_for(terminal: Terminal, name: str) -> None:
    jobs = [terminal.submit("--job-name", name) for _ in range(2)]
    terminal.into("PENDING", "RUNNING")(jobs[0])
    ended: list[str] = []

    class Jobs(JobService):
        """The running job ends while it is waited for."""

        async def preview_cancel_all(self, wanted: Any) -> Any:
            ended.append(wanted.status)
            terminal.into("CANCELLED")(jobs[0])
            return await super().preview_cancel_all(wanted)

    terminal.services["jobs"] = lambda gateway: Jobs(
        gateway, snapshots_dir=Path("snapshots"), records_dir=Path("records")
    )
    done = terminal("cancel", "--all", "--name", name, "--yes", "--force", "--wait", "--json")
    assert (done.code, done.json["matched"], done.json["done"]) == (0, 2, False)
    assert ended == ["cancelling"]
    runs = [terminal.prefect.read_run(job) for job in jobs]
    assert [run["state"]["type"] for run in runs] == ["CANCELLED"] * 2
    assert all(run["labels"]["oumi.force_cancel"] is True for run in runs)


def test_what_could_not_be_cancelled_is_said_and_is_an_error(terminal: Terminal, name: str) -> None:
    stays = terminal.submit("--job-name", name)
    terminal.submit("--job-name", name)

    terminal.refused.add(stays)
    done = terminal("cancel", "--all", "--name", name, "--yes")
    assert (done.code, done.err) == (
        6,
        f"{name}-{stays[:8]}: CONFLICT: It was refused. Try again.\n",
    )


@pytest.mark.parametrize("arguments", [(), ("some job", "--all"), ("some job", "--cloud", "gcp")])
def test_a_cancel_that_could_mean_anything_is_refused(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    assert terminal("cancel", *arguments).code == 2
    assert not terminal.engine.brought_up


@pytest.mark.parametrize(("options", "fresh"), [((), False), (("--fresh",), True)])
def test_retry_resumes_unless_told_to_begin_anew(
    terminal: Terminal, options: tuple[str, ...], fresh: bool
) -> None:
    job_id = terminal.submit()
    terminal.into("RUNNING", "FAILED")(job_id)
    assert terminal("retry", job_id, *options).code == 0
    labels = terminal.prefect.read_run(job_id)["labels"]
    assert labels["oumi.attempt"] == 2
    assert (labels.get("oumi.fresh_attempt") == 2) is fresh


@pytest.mark.parametrize("error", OumiFlowsError.__subclasses__(), ids=lambda e: e.__name__)
def test_every_error_is_one_line_and_its_exit_code(
    terminal: Terminal, error: type[OumiFlowsError]
) -> None:
    terminal.engine.error = error("It\nwent wrong", "Fix it")
    done = terminal("show", "some job")
    assert (done.code, done.out) == (EXIT_OF_ERROR[error.code], "")
    assert done.err == f"{error.code}: It went wrong. Fix it.\n"


def test_json_and_errors_hide_what_the_tools_hide(terminal: Terminal) -> None:
    secret = "hf_AbCdEfGh0123456789"
    job_id = terminal.submit()
    terminal.into("RUNNING", message=f"no access with {secret}")(job_id)
    assert terminal("show", job_id, "--json").json["message"] == "no access with ***"
    for done in (terminal("show", secret), terminal("show", secret, "--json")):
        assert done.code == 4
        assert secret not in done.err
        assert "***" in done.err


def test_an_error_is_json_where_json_was_asked_for(terminal: Terminal) -> None:
    done = terminal("show", "x", "--json")
    assert (done.code, done.out) == (4, "")
    assert done.error["code"] == "JOB_NOT_FOUND"
    assert "`oumi-flows jobs`" in done.error["message"]
    assert "list_jobs" not in done.error["message"]
    assert terminal("show", "--json").error["code"] == "INVALID_ARGUMENT"


def test_an_error_speaks_of_commands_and_options_and_leaves_paths_alone(
    terminal: Terminal,
) -> None:
    terminal.engine.error = ConfigNotFound(
        "There is no file /a/config_path/job_name.yaml", "Check config_path or use list_jobs"
    )
    assert terminal("show", "x").err == (
        "CONFIG_NOT_FOUND: There is no file /a/config_path/job_name.yaml. "
        "Check CONFIG or use `oumi-flows jobs`.\n"
    )


def test_a_defect_is_one_line_too_and_a_traceback_only_when_debugging(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.engine.error = ZeroDivisionError("odd")
    done = terminal("show", "x")
    assert done.code == 6
    assert done.err.startswith("INTERNAL: A defect in oumi-flows (ZeroDivisionError: odd). ")
    assert done.err.count("\n") == 1
    monkeypatch.setenv("OUMI_FLOWS_DEBUG", "1")
    assert "Traceback" in terminal("show", "x").err


def test_a_bad_setting_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUMI_FLOWS_LOCAL_SLOTS", "many")
    done = terminal("jobs")
    assert done.code == 2
    assert "OUMI_FLOWS_LOCAL_SLOTS" in done.err


def test_a_terminal_sees_colours_and_a_table_that_fits(
    terminal: Terminal, on_a_terminal: Callable[[], None], name: str
) -> None:
    terminal.into("RUNNING")(terminal.submit("--job-name", name))
    on_a_terminal()
    done = terminal("jobs", "--name", name)
    assert "\x1b[36mrunning" in done.out
    assert max(map(len, done.out.splitlines())) < 240


def test_compare_writes_what_differs_side_by_side(terminal: Terminal) -> None:
    a = terminal.submit("--set", "training.seed=1")
    b = terminal.submit()
    done = terminal("compare", a, b)

    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines() if line.strip()]
    assert ["what", a[:8], b[:8]] in rows
    assert ["config.training.seed", "1", "-"] in rows


def test_adopt_writes_the_id_that_the_job_has_with_us(terminal: Terminal, tmp_path: Path) -> None:
    adopted: list[JobHandle] = []

    class Jobs(JobService):
        """The worker's part of an adoption has no place in a test without a worker."""

        async def adopt(self, job: JobHandle) -> Adoption:
            adopted.append(job)
            return Adoption(
                summary="gcp job 7 is one of our jobs now, running.",
                job_id="0f9e8d7c",
                state=JobState.RUNNING,
            )

    terminal.services["jobs"] = lambda gateway: Jobs(
        gateway, snapshots_dir=tmp_path, records_dir=tmp_path
    )
    done = terminal("adopt", "gcp", "c1", "7")

    assert (done.code, done.out) == (0, "0f9e8d7c\n")
    assert adopted == [JobHandle(cloud="gcp", cluster_name="c1", launcher_job_id="7")]
    assert "is one of our jobs now" in done.err
    assert terminal("adopt", "gcp", "c1", "7", "--json").json["state"] == "running"
