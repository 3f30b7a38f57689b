import json
import re
from collections.abc import Callable

import pytest

from flows.core.errors import EngineUnavailable
from mcp_server.cli.following import Lines, Patience, display_of
from mcp_server.cli.output import Output
from tests.cli.conftest import Terminal
from tests.cli.fakes import (
    CANCELLED,
    FAILED,
    JOB_ID,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    page_of,
)

GONE = EngineUnavailable("The server did not answer", "Run `oumi-flows doctor`")


def test_watch_writes_a_line_for_each_state_and_the_end(terminal: Terminal) -> None:
    terminal.jobs.story = [SCHEDULED, RUNNING, RUNNING, SUCCEEDED]
    done = terminal("watch", JOB_ID)
    assert done.code == 0
    assert done.out.splitlines() == [
        "demo-0f9e8d7c is scheduled",
        "demo-0f9e8d7c is running; step 10 of 60; loss 4.2",
        "demo-0f9e8d7c is succeeded",
        "  duration     0:01:01",
        "  output       /home/me/out",
        "  log          /home/me/log.txt",
    ]


def test_watch_of_a_failure_ends_with_the_last_lines_of_its_log(terminal: Terminal) -> None:
    terminal.jobs.story = [FAILED]
    done = terminal("watch", JOB_ID)
    assert done.code == 1
    assert done.out.endswith("Last lines of the log:\nTraceback ...\nValueError: no\n")


def test_watch_as_json_writes_each_status_on_a_line(terminal: Terminal) -> None:
    terminal.jobs.story = [SCHEDULED, RUNNING, CANCELLED]
    done = terminal("watch", JOB_ID, "--json")
    assert done.code == 3
    assert [json.loads(line) for line in done.out.splitlines()] == [
        status.model_dump(mode="json") for status in (SCHEDULED, RUNNING, CANCELLED)
    ]


def test_a_bar_shows_state_step_loss_and_time_left_and_is_gone_in_the_end(
    on_a_terminal: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal()
    with display_of(Output(), as_json=False) as show:
        show(RUNNING)
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "demo-0f9e8d7c: running" in drawn
    assert "step 10 of 60, loss 4.2, about 50 s left" in drawn
    assert "0:01:01" in drawn


def test_watch_on_a_terminal_ends_with_how_the_job_ended(
    terminal: Terminal, on_a_terminal: Callable[[], None]
) -> None:
    on_a_terminal()
    terminal.jobs.story = [RUNNING, SUCCEEDED]
    done = terminal("watch", JOB_ID)
    assert done.code == 0
    assert "demo-0f9e8d7c is succeeded" in done.out.rpartition("\x1b[?25h")[2]


def test_ctrl_c_leaves_the_job_running_and_says_so(terminal: Terminal) -> None:
    terminal.jobs.story = [RUNNING, KeyboardInterrupt()]
    done = terminal("watch", JOB_ID)
    assert done.code == 130
    assert f"The job keeps running: `oumi-flows watch {JOB_ID}`" in done.err
    assert "Traceback" not in done.err
    assert not [name for name, _ in terminal.jobs.calls if name == "cancel"]


def test_watch_of_a_job_that_cannot_be_seen_at_first_fails(terminal: Terminal) -> None:
    terminal.jobs.story = [GONE]
    assert terminal("watch", JOB_ID).code == 5


def test_progress_alone_is_worth_a_line_only_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 0.0, 1.0, 9.9, 10.1, 10.1])
    lines = Lines(Output(), now=lambda: next(times))
    for _ in range(4):
        lines.show(RUNNING)
    assert capsys.readouterr().out.count("\n") == 2


async def test_an_engine_that_comes_back_in_time_is_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 5.0, 20.0, 29.0])
    patience = Patience(Output(), seconds=10, pause_seconds=0, now=lambda: next(times))
    patience.note_answer()
    await patience.bear(GONE)
    await patience.bear(GONE)
    patience.note_answer()
    await patience.bear(GONE)
    await patience.bear(GONE)
    notes = capsys.readouterr().err.splitlines()
    assert notes == ["The server did not answer; the job keeps running. Asking again."] * 2


async def test_an_engine_that_stays_away_is_given_up() -> None:
    times = iter([0.0, 11.0])
    patience = Patience(Output(), seconds=10, pause_seconds=0, now=lambda: next(times))
    patience.note_answer()
    await patience.bear(GONE)
    with pytest.raises(EngineUnavailable):
        await patience.bear(GONE)


def test_logs_writes_the_log_to_stdout_and_the_summary_to_stderr(terminal: Terminal) -> None:
    terminal.jobs.pages = [page_of("one", "two [bold]", cursor="1")]
    done = terminal("logs", JOB_ID, "--lines", "5", "--grep", "o", "--cursor", "0")
    assert (done.code, done.out, done.err) == (
        0,
        "one\ntwo [bold]\n",
        "2 lines of demo-0f9e8d7c\n",
    )
    assert terminal.jobs.calls == [
        ("logs", {"reference": JOB_ID, "lines": 5, "cursor": "0", "grep": "o"})
    ]


def test_logs_follow_goes_from_cursor_to_cursor_until_the_end(terminal: Terminal) -> None:
    terminal.jobs.pages = [
        page_of("one", cursor="1"),
        page_of(cursor="1"),
        page_of("two", "three", cursor="2"),
        page_of("four", cursor="3", at_end=True),
    ]
    done = terminal("logs", "demo", "-f")
    assert (done.code, done.out, done.err) == (0, "one\ntwo\nthree\nfour\n", "")
    assert [call["cursor"] for _, call in terminal.jobs.calls] == [None, "1", "1", "2"]
    assert {call["reference"] for _, call in terminal.jobs.calls[1:]} == {JOB_ID}


def test_logs_follow_as_json_writes_a_page_on_a_line(terminal: Terminal) -> None:
    pages = [page_of("one", cursor="1"), page_of("two", cursor="2", at_end=True)]
    terminal.jobs.pages = list(pages)
    done = terminal("logs", JOB_ID, "-f", "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        page.model_dump(mode="json") for page in pages
    ]
