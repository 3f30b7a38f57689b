import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from flows.core.errors import EngineUnavailable
from flows.core.models import JobProgress, JobStatus
from flows.core.states import Health, JobState
from mcp_server.cli.following import Lines, Patience, display_of
from mcp_server.cli.output import Output
from tests.cli.conftest import Step, Terminal
from tests.mcp_server.runs_stub import NOON
from tests.support.logs import write_log

GONE = EngineUnavailable("The server did not answer", "Run `oumi-flows doctor`")
RUNNING = JobStatus(
    summary="demo is running; step 10 of 60; loss 4.2",
    job_id="0f9e8d7c",
    name="demo",
    state=JobState.RUNNING,
    is_done=False,
    reachable=True,
    observed_at=NOON,
    duration_seconds=61.2,
    progress=JobProgress(step=10, max_steps=60, percent=16.67, loss=4.2, eta_seconds=50),
)


@pytest.fixture
def name() -> str:
    """A name that no other job on the server has."""
    return f"job {uuid4().hex}"


@pytest.fixture
def job_id(terminal: Terminal, name: str) -> str:
    return terminal.submit("--job-name", name)


def at_step(terminal: Terminal, step: int) -> Step:
    """The job runs and tells its progress."""

    def run(job_id: str) -> None:
        terminal.prefect.set_states(job_id, "RUNNING")
        facts = {"step": str(step), "max_steps": "60", "loss": "4.2"}
        terminal.prefect.show_progress(job_id, step / 0.6, **facts)

    return run


def nothing(_: str) -> None:
    pass


def fails(error: BaseException) -> Step:
    def fail(_: str) -> None:
        raise error

    return fail


def test_watch_writes_a_line_for_each_state_and_the_end(
    terminal: Terminal, job_id: str, name: str, folder: Path
) -> None:
    log = write_log(folder, job_id, "done\n")
    terminal.prefect.label(job_id, log_path=str(log))
    terminal.steps += [nothing, at_step(terminal, 10), nothing, terminal.into("COMPLETED")]
    done = terminal("watch", job_id)
    assert done.code == 0
    *lines, duration, output, path = done.out.splitlines()
    assert lines == [
        f"{name} is scheduled",
        f"{name} is running; step 10 of 60; loss 4.2",
        f"{name} is succeeded; step 10 of 60; loss 4.2",
    ]
    assert re.fullmatch(r"  duration     0:00:\d\d", duration)
    assert (output, path) == (f"  output       {folder}/out", f"  log          {log}")


def test_watch_of_a_failure_ends_with_the_last_lines_of_its_log(
    terminal: Terminal, job_id: str, folder: Path
) -> None:
    log = write_log(folder, job_id, "Traceback ...\nValueError: no\n")
    terminal.prefect.label(job_id, log_path=str(log))
    terminal.into("RUNNING", "FAILED")(job_id)
    done = terminal("watch", job_id)
    assert done.code == 1
    assert done.out.endswith("Last lines of the log:\nTraceback ...\nValueError: no\n")


def test_watch_as_json_writes_each_status_on_a_line(terminal: Terminal, job_id: str) -> None:
    terminal.steps += [nothing, terminal.into("RUNNING"), terminal.into("CANCELLED")]
    done = terminal("watch", job_id, "--json")
    assert done.code == 3
    written = [JobStatus.model_validate_json(line) for line in done.out.splitlines()]
    assert [status.state for status in written] == ["scheduled", "running", "cancelled"]
    assert {status.job_id for status in written} == {job_id}


def test_a_bar_shows_state_step_loss_and_time_left_and_is_gone_in_the_end(
    on_a_terminal: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal()
    with display_of(Output(), as_json=False) as show:
        show(RUNNING)
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "demo: running" in drawn
    assert "step 10 of 60, loss 4.2, about 50 s left" in drawn
    assert "0:01:01" in drawn


def test_watch_on_a_terminal_ends_with_how_the_job_ended(
    terminal: Terminal, job_id: str, name: str, on_a_terminal: Callable[[], None]
) -> None:
    on_a_terminal()
    terminal.steps += [terminal.into("RUNNING"), terminal.into("COMPLETED")]
    done = terminal("watch", job_id)
    assert done.code == 0
    assert f"{name} is succeeded" in done.out.rpartition("\x1b[?25h")[2]


def test_ctrl_c_leaves_the_job_running_and_says_so(terminal: Terminal, job_id: str) -> None:
    terminal.steps += [terminal.into("RUNNING"), fails(KeyboardInterrupt())]
    done = terminal("watch", job_id)
    assert done.code == 130
    assert f"The job keeps running: `oumi-flows watch {job_id}`" in done.err
    assert "Traceback" not in done.err
    assert terminal.prefect.read_run(job_id)["state"]["type"] == "RUNNING"


def test_watch_of_a_job_that_cannot_be_seen_at_first_fails(terminal: Terminal, job_id: str) -> None:
    terminal.steps.append(fails(GONE))
    assert terminal("watch", job_id).code == 5


def test_progress_alone_is_worth_a_line_ever_more_seldom(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    lines = Lines(Output(), now=lambda: now)
    written: list[float] = []
    while now < 3 * 3600:
        lines.show(RUNNING)
        if capsys.readouterr().out:
            written.append(now)
        now += 1.0
    assert written[:5] == [0.0, 10.0, 30.0, 70.0, 150.0]
    assert len(written) < 30


def test_a_change_of_health_is_news(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Output(), now=lambda: 0.0)
    for health in (Health.OK, Health.OK, Health.BAD):
        lines.show(RUNNING.model_copy(update={"health": health}))
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


def test_logs_writes_the_log_to_stdout_and_the_summary_to_stderr(
    terminal: Terminal, job_id: str, name: str, folder: Path
) -> None:
    log = write_log(folder, job_id, "none\n")
    terminal.prefect.label(job_id, log_path=str(log))
    cursor = terminal("logs", job_id, "--json").json["next_cursor"]
    write_log(folder, job_id, "left out\none\nnext\ntwo [bold]\n")
    done = terminal("logs", job_id, "--lines", "2", "--grep", "o[ n]?", "--cursor", cursor)
    assert (done.code, done.out) == (0, "left out\none\n")
    assert done.err.startswith(f"2 lines of {name}")
    done = terminal("logs", job_id, "--lines", "1")
    assert done.out == "two [bold]\n"


def follow(terminal: Terminal, job_id: str, folder: Path, *options: str) -> tuple[int, str, str]:
    """Follow a log that grows while it is read."""
    log = write_log(folder, job_id, "one\n")
    terminal.prefect.label(job_id, log_path=str(log))
    terminal.into("RUNNING")(job_id)

    def end(job_id: str) -> None:
        write_log(folder, job_id, "four\n")
        terminal.into("COMPLETED")(job_id)

    grow: Step = lambda job_id: write_log(folder, job_id, "two\nthree\n")  # noqa: E731
    terminal.steps += [nothing, nothing, grow, end]
    done = terminal("logs", job_id, "-f", *options)
    return done.code, done.out, done.err


def test_logs_follow_goes_from_cursor_to_cursor_until_the_end(
    terminal: Terminal, job_id: str, folder: Path
) -> None:
    assert follow(terminal, job_id, folder) == (0, "one\ntwo\nthree\nfour\n", "")
    assert not terminal.steps


def test_logs_follow_as_json_writes_a_page_on_a_line(
    terminal: Terminal, job_id: str, folder: Path
) -> None:
    _, out, _ = follow(terminal, job_id, folder, "--json")
    pages = [json.loads(line) for line in out.splitlines()]
    assert [page["logs"] for page in pages] == ["one", "", "two\nthree", "four"]
    assert [page["at_end"] for page in pages] == [False, False, False, True]
    assert {page["job_id"] for page in pages} == {job_id}
