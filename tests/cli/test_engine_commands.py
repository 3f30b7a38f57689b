import pytest

from flows.core.errors import EngineUnavailable
from mcp_server.engine import EngineFinding, EngineSeverity, WorkerStatus
from tests.cli.conftest import UP, Terminal

DOWN = UP.model_copy(
    update={
        "summary": "The worker is not running, so jobs wait",
        "worker": WorkerStatus(name="w"),
        "problem": "The worker is not running, so jobs wait",
        "fix": "Run `oumi-flows up`",
    }
)
FINE = EngineFinding(severity=EngineSeverity.OK, subject="Folder", what="It is private")
BROKEN = EngineFinding(
    severity=EngineSeverity.ERROR, subject="Worker", what="It is gone", fix="Run `oumi-flows up`"
)
DOUBTFUL = EngineFinding(
    severity=EngineSeverity.WARNING, subject="Disk", what="It is nearly full", fix="Free"
)


def test_status_says_where_the_ui_is_and_how_to_log_in(terminal: Terminal) -> None:
    done = terminal("status")
    assert done.code == 0
    assert "Prefect UI   http://127.0.0.1:4200\n" in done.out
    assert "UI log-in    the one line in /home/me/.oumi-flows/engine/auth\n" in done.out
    assert "server       healthy (pid 7)" in done.out
    assert "worker       ready (pid 8)" in done.out


def test_status_of_a_broken_engine_exits_with_5_and_says_what_to_do(terminal: Terminal) -> None:
    terminal.engine.now = DOWN
    done = terminal("status")
    assert done.code == 5
    assert done.out.endswith("What to do: Run `oumi-flows up`\n")


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_engine_commands_as_json_write_the_status(terminal: Terminal, command: str) -> None:
    assert terminal(command, "--json").json == UP.model_dump(mode="json")


@pytest.mark.parametrize(("options", "waited"), [((), False), (("--wait",), True)])
def test_up_tells_its_steps_on_stderr(
    terminal: Terminal, options: tuple[str, ...], waited: bool
) -> None:
    done = terminal("up", *options)
    assert (done.code, done.err) == (0, "Starting the Prefect server\n")
    assert terminal.engine.waited is waited


def test_up_that_fails_exits_with_5(terminal: Terminal) -> None:
    terminal.engine.error = EngineUnavailable("The disk is full", "Free some of it")
    done = terminal("up")
    assert done.code == 5
    assert done.err.endswith("ENGINE_UNAVAILABLE: The disk is full. Free some of it.\n")


def test_down_says_that_jobs_go_on(terminal: Terminal) -> None:
    assert terminal("down").out == "The engine is stopped. Running jobs keep running.\n"


@pytest.mark.parametrize(
    ("found", "code"), [([FINE], 0), ([FINE, DOUBTFUL], 0), ([FINE, DOUBTFUL, BROKEN], 1)]
)
def test_doctor_exits_with_1_if_anything_is_broken(
    terminal: Terminal, found: list[EngineFinding], code: int
) -> None:
    terminal.engine.found = found
    assert terminal("doctor").code == code


def test_doctor_lists_findings_with_their_fixes(terminal: Terminal) -> None:
    terminal.engine.found = [FINE, BROKEN]
    assert terminal("doctor").out.splitlines() == [
        "OK       Folder: It is private",
        "ERROR    Worker: It is gone",
        "         What to do: Run `oumi-flows up`",
    ]
    assert terminal("doctor", "--json").json == {
        "summary": "It is gone",
        "findings": [found.model_dump(mode="json") for found in (FINE, BROKEN)],
    }


def test_up_stays_only_if_it_is_to_keep_the_engine_up(terminal: Terminal) -> None:
    terminal("up")
    assert not terminal.engine.kept
    assert terminal("up", "--keep").code == 0
    assert terminal.engine.kept


def test_doctor_finds_that_commands_fail_although_all_parts_are_well(terminal: Terminal) -> None:
    terminal.engine.found = [FINE]
    terminal.engine.error = EngineUnavailable("A proxy took the loopback", "Unset ALL_PROXY")
    done = terminal("doctor")
    assert done.code == 1
    assert done.out.splitlines() == [
        "OK       Folder: It is private",
        "ERROR    Commands: A proxy took the loopback",
        "         What to do: Unset ALL_PROXY",
    ]
    assert terminal("doctor", "--json").json["summary"] == "A proxy took the loopback"
