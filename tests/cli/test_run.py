from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from mcp_server.services.jobs.submitting import NewJob
from tests.cli.conftest import Terminal
from tests.cli.fakes import CANCELLED, CRASHED, FAILED, JOB_ID, RUNNING, SUCCEEDED


def submitted(terminal: Terminal) -> NewJob:
    name, arguments = terminal.jobs.calls[0]
    assert name in ("submit", "plan")
    return arguments["new"]


def test_run_writes_the_id_alone_to_stdout_and_the_rest_to_stderr(terminal: Terminal) -> None:
    done = terminal("run", "train.yaml")
    assert (done.code, done.out) == (0, f"{JOB_ID}\n")
    assert "demo-0f9e8d7c is scheduled" in done.err
    assert terminal.backend.brought_up


def test_every_option_of_run_reaches_the_service(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = terminal(
        *("run", "job.yaml", "--command", "infer", "--job-name", "mine", "--cloud", "gcp"),
        *("--cluster-name", "big", "--idempotency-key", "k", "--max-retries", "3"),
        *("--skip-preflight", "--set", "generation.seed=7", "--detach"),
    )
    assert done.code == 0
    assert terminal.jobs.calls[0][1] == {
        "new": NewJob(
            config_path="job.yaml",
            client_cwd=str(tmp_path),
            command="infer",
            job_name="mine",
            cloud="gcp",
            cluster_name="big",
            skip_preflight=True,
            overrides={"generation.seed": 7},
            max_retries=3,
        ),
        "idempotency_key": "k",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60", 60),
        ("1e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("", None),
        ("yes sir", "yes sir"),
        ("a=b", "a=b"),
        ("'60'", "60"),
        ("2024-01-01", "2024-01-01"),
        ("[1, two, 3.5]", [1, "two", 3.5]),
    ],
)
def test_the_value_of_set_is_read_as_yaml(terminal: Terminal, text: str, value: object) -> None:
    assert terminal("run", "c.yaml", "-s", f"a.b={text}").code == 0
    read = submitted(terminal).overrides["a.b"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("steps", "INVALID_ARGUMENT"),
        ("=1", "INVALID_ARGUMENT"),
        ("a={b: 1}", "INVALID_ARGUMENT"),
        ("a=[", "INVALID_CONFIG"),
    ],
)
def test_a_bad_set_is_refused_before_anything_starts(
    terminal: Terminal, text: str, code: str
) -> None:
    done = terminal("run", "c.yaml", "--set", text)
    assert done.code == 2
    assert done.err.startswith(f"{code}: --set ")
    assert not terminal.jobs.calls


def test_a_dry_run_shows_the_plan_and_needs_no_engine(terminal: Terminal) -> None:
    done = terminal("run", "c.yaml", "--dry-run")
    assert done.code == 0
    assert "nothing was started" in done.out
    assert done.err == "The disk was not looked at.\n"
    assert not terminal.backend.brought_up


@pytest.mark.parametrize(
    ("end", "code"), [(SUCCEEDED, 0), (FAILED, 1), (CRASHED, 1), (CANCELLED, 3)]
)
def test_run_watch_exits_as_the_job_ended(terminal: Terminal, end: object, code: int) -> None:
    terminal.jobs.story = [RUNNING, end]  # type: ignore[list-item]
    done = terminal("run", "c.yaml", "--watch")
    assert done.code == code
    assert done.out.startswith(f"{JOB_ID}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--watch", "--dry-run"),
        ("--max-retries", "101"),
        ("--max-retries", "many"),
        ("--job-name", "x" * 101),
        ("--idempotency-key", "x" * 201),
        ("--nonsense",),
    ],
)
def test_arguments_out_of_bounds_are_refused_in_one_line(
    terminal: Terminal, arguments: tuple[str, ...]
) -> None:
    done = terminal("run", "c.yaml", *arguments)
    assert done.code == 2
    assert done.err.startswith("INVALID_ARGUMENT: ")
    assert done.err.count("\n") == 1
    assert not terminal.jobs.calls


def test_a_folder_that_is_gone_is_said_to_be(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = terminal("run", "c.yaml")
    assert (done.code, done.err) == (
        2,
        "INVALID_ARGUMENT: The current folder no longer exists. Go to another folder.\n",
    )


def test_run_without_an_engine_exits_with_5(terminal: Terminal) -> None:
    terminal.jobs.error = EngineUnavailable("The server is gone", "Run `oumi-flows up`")
    assert terminal("run", "c.yaml").code == 5
