"""`oumi-flows` as a process, on a real engine."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import GREETING, job_config, quick_job, slow_job
from tests.support.stack import OUMI_FLOWS, Stack
from tests.support.waiting import eventually_sync

TIMEOUT_SECONDS = 120


def run(
    stack: Stack, *arguments: str, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(OUMI_FLOWS), *arguments],
        env={**stack.env, **environ},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


@pytest.fixture
def slow(stack: Stack, tmp_path: Path) -> Iterator[str]:
    """The id of a job that runs until it is cancelled."""
    job_id = stack.cli("run", str(slow_job(tmp_path)), "--job-name", "slow").strip()
    yield job_id
    stack.cli("cancel", job_id, "--force", "--wait", check=False)


def is_running(stack: Stack, job_id: str) -> bool:
    return json.loads(stack.cli("show", job_id, "--json"))["state"] == "running"


@pytest.mark.engine
def test_a_job_is_run_watched_listed_shown_and_its_log_read(stack: Stack, tmp_path: Path) -> None:
    quick_job(tmp_path)
    watched = run(stack, "run", "quick.yaml", "--job-name", "mine", "--watch", cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    job_id, *lines = watched.stdout.splitlines()
    name = "mine"
    assert f"{name} is succeeded" in lines

    shown = run(stack, "show", job_id[:8])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"{name} is succeeded\n")

    assert re.search(rf"^{job_id[:8]} +succeeded +{name}", stack.cli("jobs"), re.MULTILINE)
    listed = json.loads(stack.cli("jobs", "--status", "completed", "--json"))
    assert name in [job["name"] for job in listed["jobs"]]

    assert stack.cli("logs", f"mine-{job_id[:8]}") == f"{GREETING}\n"
    assert json.loads(stack.cli("logs", job_id, "--json"))["at_end"] is True

    ended = run(stack, "cancel", job_id)
    assert ended.returncode == 6
    assert ended.stderr.startswith("JOB_ALREADY_DONE: ")


@pytest.mark.engine
def test_a_log_is_followed_from_its_first_line_to_its_last(stack: Stack, tmp_path: Path) -> None:
    lines = 30
    config = job_config(tmp_path, "count", f"for i in $(seq {lines}); do echo $i; sleep 0.05; done")
    job_id = stack.cli("run", str(config)).strip()
    followed = run(stack, "logs", job_id, "-f")
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.split() == [str(number + 1) for number in range(lines)]


@pytest.mark.engine
def test_a_job_that_fails_exits_with_1_and_its_last_lines(stack: Stack, tmp_path: Path) -> None:
    config = job_config(tmp_path, "broken", 'echo "ValueError: no such thing"\nexit 3')
    done = run(stack, "run", str(config), "--watch")
    assert done.returncode == 1
    assert "nonzero_exit" in done.stdout
    assert done.stdout.endswith("ValueError: no such thing\n")


@pytest.mark.engine
def test_ctrl_c_ends_a_watch_and_not_the_job_and_cancel_ends_the_job(
    stack: Stack, slow: str
) -> None:
    with watching(stack, slow, "--json") as watch:
        states = statuses_until(watch, "running")
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate(timeout=TIMEOUT_SECONDS)
    assert states[-1]["job_id"] == slow
    assert watch.returncode == 130
    assert f"`oumi-flows cancel {slow}`" in errors
    assert "Traceback" not in errors
    assert is_running(stack, slow)

    with watching(stack, slow) as watch:
        cancelled = run(stack, "cancel", slow, "--wait", "--json")
        watch.communicate(timeout=TIMEOUT_SECONDS)
    assert cancelled.returncode == 0, cancelled.stderr
    assert json.loads(cancelled.stdout)["state"] == "cancelled"
    assert watch.returncode == 3


@contextmanager
def watching(stack: Stack, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [str(OUMI_FLOWS), "watch", *arguments],
        env=dict(stack.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()


def statuses_until(watch: "subprocess.Popen[str]", state: str) -> list[dict[str, Any]]:
    assert watch.stdout
    seen: list[dict[str, Any]] = []
    for line in watch.stdout:
        seen.append(json.loads(line))
        if seen[-1]["state"] == state:
            return seen
    raise AssertionError(f"never {state}: {seen}")


@pytest.mark.engine
def test_on_a_terminal_a_bar_is_drawn_and_removed(stack: Stack, slow: str) -> None:
    ours, theirs = pty.openpty()
    watch = subprocess.Popen(
        [str(OUMI_FLOWS), "watch", slow],
        env={**stack.env, "TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        drawn = ""

        def sees(text: str) -> bool:
            nonlocal drawn
            drawn += os.read(ours, 4096).decode()
            return text in drawn

        eventually_sync(lambda: sees("slow: running") or sees(f"{slow[:8]}: running"), timeout=60)
        watch.send_signal(signal.SIGINT)
        eventually_sync(lambda: sees("The job keeps running"))
        assert "\x1b[?25h" in drawn, "the cursor is shown again"
        assert watch.wait(timeout=20) == 130
    finally:
        os.close(ours)
        watch.kill()
        watch.wait(timeout=20)


@pytest.mark.engine
def test_the_id_of_no_job_exits_with_4(stack: Stack) -> None:
    done = run(stack, "show", "no-such-job", "--json")
    assert (done.returncode, done.stdout) == (4, "")
    assert json.loads(done.stderr)["error"]["code"] == "JOB_NOT_FOUND"


@pytest.mark.engine
def test_a_reader_that_leaves_ends_the_command_quietly(stack: Stack, slow: str) -> None:
    with watching(stack, slow, "--json") as watch:
        assert watch.stdout
        watch.stdout.close()
        stack.cli("cancel", slow, "--force", "--wait")
        assert watch.stderr
        errors = watch.stderr.read()
        watch.wait(timeout=TIMEOUT_SECONDS)
    assert (watch.returncode, errors) == (141, "")


@pytest.mark.engine
def test_status_and_doctor_find_nothing_wrong(stack: Stack) -> None:
    status = json.loads(stack.cli("status", "--json"))
    assert status["server"]["healthy"] is True
    assert Path(status["auth_path"]).is_file()
    assert "OK " in stack.cli("doctor")


def test_a_dry_run_of_a_job_config_starts_no_engine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [str(OUMI_FLOWS), "run", str(quick_job(tmp_path)), "--dry-run"],
        env={**os.environ, "OUMI_FLOWS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert GREETING in done.stdout
    assert not (home / "engine").exists()


def test_status_of_an_engine_that_never_started_exits_with_5(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(OUMI_FLOWS), "status"],
        env={**os.environ, "OUMI_FLOWS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 5
    assert "Run `oumi-flows up`" in done.stdout


def test_mcp_is_served_without_loading_what_the_other_commands_need() -> None:
    heavy = ("typer", "rich", "mcp_server.engine.engine", "prefect", "oumi")
    code = (
        "import sys\n"
        "import mcp_server.cli, mcp_server.cli.serve, mcp_server.transports.stdio\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        (("--port", "99999"), "is not a port"),
        (("--port", "8080"), "do not go with --transport stdio"),
        (("--transport", "carrier-pigeon"), "invalid choice"),
        (("--nonsense",), "unrecognized arguments"),
        (("--toolsets", "odd"), "no toolset"),
        (("--transport", "http", "--host", "0.0.0.0"), "needs a bearer token"),
    ],
)
def test_mcp_refuses_what_it_cannot_serve_in_one_line(
    arguments: tuple[str, ...], errors: str
) -> None:
    done = subprocess.run(
        [str(OUMI_FLOWS), "mcp", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("INVALID_ARGUMENT: ")
    assert errors in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_server_started_in_a_terminal_says_what_it_is_and_waits(stack: Stack) -> None:
    ours, its = pty.openpty()
    server = subprocess.Popen(
        [OUMI_FLOWS, "mcp"],
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=stack.env,
    )
    os.close(its)
    try:
        assert server.stderr
        said = server.stderr.readline()
        assert said.startswith("This is the MCP server. ")
        assert server.poll() is None
    finally:
        server.kill()
        server.communicate(timeout=30)
        os.close(ours)
