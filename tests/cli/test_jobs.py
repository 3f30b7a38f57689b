from collections.abc import Callable
from typing import Any

import pytest

from flows.core.errors import ConfigNotFound, ErrorCode, JobNotFound, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.states import JobState
from mcp_server.cli.exits import EXIT_OF_ERROR, EXIT_OF_STATE, MEANING, Exit
from mcp_server.services.jobs.cancelling import CancelRow
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.results import JobList
from tests.cli.conftest import Terminal
from tests.cli.fakes import (
    CANCELLED,
    CANCELLING,
    ENDED,
    FAILED,
    JOB_ID,
    JOB_LIST,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    page_of,
)


def test_every_error_code_and_every_end_of_a_job_has_an_exit_code() -> None:
    assert set(EXIT_OF_ERROR) == set(ErrorCode)
    assert set(EXIT_OF_STATE) == {state for state in JobState if state.is_terminal}
    assert set(MEANING) == set(Exit)


def test_jobs_are_listed_with_a_short_id_and_no_markup_is_read_in_names(
    terminal: Terminal,
) -> None:
    done = terminal("jobs")
    assert done.code == 0
    header, row = done.out.splitlines()
    assert header.split() == ["ID", "STATE", "NAME", "CLOUD", "CREATED", "DURATION"]
    assert row.startswith("0f9e8d7c  running  demo [red]-0f9e8d7c  local  2026-11-23")
    assert row.rstrip().endswith("1:01:01")
    assert done.err == "There are more: add --cursor MORE\n"


def test_options_of_jobs_reach_the_service(terminal: Terminal) -> None:
    terminal("jobs", "--status", "failed", "--cloud", "gcp", "--limit", "5", "--cursor", "c")
    assert terminal.jobs.calls == [
        ("list", {"status": "failed", "cloud": "gcp", "name": "", "limit": 5, "cursor": "c"})
    ]


def test_an_empty_list_says_so_on_stderr(terminal: Terminal) -> None:
    terminal.jobs.listed = JobList(summary="0 jobs.", jobs=[])
    done = terminal("jobs")
    assert (done.code, done.out, done.err) == (0, "", "0 jobs.\n")


@pytest.mark.parametrize("arguments", [("--status", "odd"), ("--limit", "0"), ("--limit", "101")])
def test_jobs_refuses_what_the_tool_refuses(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    done = terminal("jobs", *arguments)
    assert done.code == 2
    assert done.err.startswith("INVALID_ARGUMENT: Invalid value for ")


def test_show_says_everything_that_is_known(terminal: Terminal) -> None:
    terminal.jobs.story = [FAILED]
    done = terminal("show", "0f9e8d7c")
    assert done.code == 0
    for text in (JOB_ID, "nonzero_exit", "/home/me/train.yaml", "/home/me/log.txt", "ValueError"):
        assert text in done.out
    assert terminal.jobs.calls == [("status", {"reference": "0f9e8d7c"})]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("jobs",), JOB_LIST),
        (("show", JOB_ID), RUNNING),
        (("logs", JOB_ID), page_of("a", cursor="1")),
        (("cancel", JOB_ID), CANCELLED),
        (("retry", JOB_ID), SCHEDULED),
    ],
)
def test_json_is_what_the_tool_answers_with(
    terminal: Terminal, arguments: tuple[str, ...], expected: Any
) -> None:
    terminal.jobs.story = [RUNNING]
    terminal.jobs.pages = [page_of("a", cursor="1")]
    done = terminal(*arguments, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == expected.model_dump(mode="json", by_alias=True)
    assert done.out.count("\n") == 1


def test_cancel_does_not_wait_unless_told(terminal: Terminal) -> None:
    terminal.jobs.cancelled = CANCELLING
    done = terminal("cancel", JOB_ID, "--force")
    assert (done.code, done.out) == (0, "demo-0f9e8d7c is cancelling\n")
    assert terminal.jobs.calls == [("cancel", {"reference": JOB_ID, "force": True})]


def test_cancel_wait_returns_when_the_job_is_gone(terminal: Terminal) -> None:
    terminal.jobs.cancelled = CANCELLING
    terminal.jobs.story = [CANCELLING, CANCELLED]
    done = terminal("cancel", JOB_ID, "--wait")
    assert (done.code, done.out) == (0, "demo-0f9e8d7c is cancelled\n")


def test_cancel_of_a_job_that_was_quicker_is_an_error(terminal: Terminal) -> None:
    terminal.jobs.cancelled = CANCELLING
    terminal.jobs.story = [SUCCEEDED]
    done = terminal("cancel", JOB_ID, "--wait")
    assert done.code == 6
    assert done.err.startswith("JOB_ALREADY_DONE: demo-0f9e8d7c ended before")


def test_without_a_person_many_jobs_are_only_named(terminal: Terminal) -> None:
    done = terminal("cancel", "--all", "--cloud", "gcp", "--status", "queued", "--name", "night")
    wanted = JobFilter(status="queued", cloud="gcp", name="night")
    assert done.code == 6
    assert done.err == (
        "Some would be cancelled.\nCONFIRMATION_REQUIRED: No job was cancelled. Give --yes to "
        "cancel them without a question.\n"
    )
    assert terminal.jobs.calls == [("preview_cancel_all", {"wanted": wanted})]


def test_many_jobs_are_cancelled_and_waited_for(terminal: Terminal) -> None:
    terminal.jobs.many = ENDED.model_copy(update={"done": False})
    terminal.jobs.lives = [0]
    done = terminal("cancel", "--all", "--yes", "--force", "--wait", "--json")
    assert (done.code, done.json["summary"]) == (0, "2 jobs: 2 cancelled.")
    assert terminal.jobs.calls == [
        ("cancel_all", {"wanted": JobFilter(), "force": True}),
        ("preview_cancel_all", {"wanted": JobFilter(status="cancelling")}),
    ]


def test_what_could_not_be_cancelled_is_said_and_is_an_error(terminal: Terminal) -> None:
    row = CancelRow(job_id=JOB_ID, name="demo", state=JobState.RUNNING, error="CONFLICT: no.")
    terminal.jobs.many = ENDED.model_copy(update={"failed": 1, "jobs": [row]})
    done = terminal("cancel", "--all", "--yes")
    assert (done.code, done.err) == (6, "demo: CONFLICT: no.\n")


@pytest.mark.parametrize("arguments", [(), (JOB_ID, "--all"), (JOB_ID, "--cloud", "gcp")])
def test_a_cancel_that_could_mean_anything_is_refused(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    assert terminal("cancel", *arguments).code == 2
    assert terminal.jobs.calls == []


@pytest.mark.parametrize(("options", "resume"), [((), True), (("--fresh",), False)])
def test_retry_resumes_unless_told_to_begin_anew(
    terminal: Terminal, options: tuple[str, ...], resume: bool
) -> None:
    assert terminal("retry", JOB_ID, *options).code == 0
    assert terminal.jobs.calls == [("retry", {"reference": JOB_ID, "resume": resume})]


@pytest.mark.parametrize("error", OumiFlowsError.__subclasses__(), ids=lambda e: e.__name__)
def test_every_error_is_one_line_and_its_exit_code(
    terminal: Terminal, error: type[OumiFlowsError]
) -> None:
    terminal.jobs.error = error("It\nwent wrong", "Fix it")
    done = terminal("show", JOB_ID)
    assert (done.code, done.out) == (EXIT_OF_ERROR[error.code], "")
    assert done.err == f"{error.code}: It went wrong. Fix it.\n"


def test_json_and_errors_hide_what_the_tools_hide(terminal: Terminal) -> None:
    secret = "hf_AbCdEfGh0123456789"
    terminal.jobs.story = [RUNNING.model_copy(update={"message": f"no access with {secret}"})]
    assert terminal("show", JOB_ID, "--json").json["message"] == "no access with ***"
    terminal.jobs.error = JobNotFound(f"No job has the id '{secret}'", "List them")
    for done in (terminal("show", secret), terminal("show", secret, "--json")):
        assert secret not in done.err
        assert "***" in done.err


def test_an_error_is_json_where_json_was_asked_for(terminal: Terminal) -> None:
    terminal.jobs.error = JobNotFound("No job has the id 'x'", "List the jobs with list_jobs")
    done = terminal("show", "x", "--json")
    assert (done.code, done.out) == (4, "")
    assert done.error == {
        "code": "JOB_NOT_FOUND",
        "message": "No job has the id 'x'. List the jobs with `oumi-flows jobs`.",
    }
    assert terminal("show", "--json").error["code"] == "INVALID_ARGUMENT"


def test_an_error_speaks_of_commands_and_options_and_leaves_paths_alone(
    terminal: Terminal,
) -> None:
    terminal.jobs.error = ConfigNotFound(
        "There is no file /a/config_path/job_name.yaml", "Check config_path or use list_jobs"
    )
    assert terminal("show", "x").err == (
        "CONFIG_NOT_FOUND: There is no file /a/config_path/job_name.yaml. "
        "Check CONFIG or use `oumi-flows jobs`.\n"
    )


def test_a_defect_is_one_line_too_and_a_traceback_only_when_debugging(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.jobs.error = ZeroDivisionError("odd")
    done = terminal("show", JOB_ID)
    assert done.code == 6
    assert done.err.startswith("INTERNAL: A defect in oumi-flows (ZeroDivisionError: odd). ")
    assert done.err.count("\n") == 1
    monkeypatch.setenv("OUMI_FLOWS_DEBUG", "1")
    assert "Traceback" in terminal("show", JOB_ID).err


def test_a_bad_setting_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUMI_FLOWS_LOCAL_SLOTS", "many")
    done = terminal("jobs")
    assert done.code == 2
    assert "OUMI_FLOWS_LOCAL_SLOTS" in done.err


def test_a_terminal_sees_colours_and_a_table_that_fits(
    terminal: Terminal, on_a_terminal: Callable[[], None]
) -> None:
    on_a_terminal()
    done = terminal("jobs")
    assert "\x1b[36mrunning" in done.out
    assert max(map(len, done.out.splitlines())) < 240


def test_compare_writes_what_differs_side_by_side(terminal: Terminal) -> None:
    done = terminal("compare", "11111111-a", "22222222-b")

    assert done.code == 0
    assert terminal.jobs.calls == [("compare", {"a": "11111111-a", "b": "22222222-b"})]
    rows = [line.split() for line in done.out.splitlines() if line.strip()]
    assert ["what", "11111111", "22222222"] in rows
    assert ["config.training.seed", "1", "-"] in rows


def test_adopt_writes_the_id_that_the_job_has_with_us(terminal: Terminal) -> None:
    done = terminal("adopt", "gcp", "c1", "7")

    assert (done.code, done.out) == (0, f"{JOB_ID}\n")
    job = JobHandle(cloud="gcp", cluster_name="c1", launcher_job_id="7")
    assert terminal.jobs.calls == [("adopt", {"job": job})]
    assert "is one of our jobs now" in done.err
    assert terminal("adopt", "gcp", "c1", "7", "--json").json["state"] == "running"
