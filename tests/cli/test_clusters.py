"""The commands for clusters."""

import pytest
import typer

from tests.cli.conftest import Terminal

TARGET = ("gcp", "c1")


def test_clusters_are_listed_with_what_they_cost(terminal: Terminal) -> None:
    done = terminal("clusters", "--cloud", "gcp")
    header, row = done.out.splitlines()
    assert header.split()[:6] == ["CLOUD", "CLUSTER", "STATE", "JOBS", "UPTIME", "PER"]
    assert row.split() == ["gcp", "c1", "up", "2", "2:00:00", "$3.50", "$7.00"]
    assert done.err == "slurm did not answer: It is away.\n"
    assert terminal.backend.rented.asked == [("list", "gcp")]


def test_a_cluster_is_stopped(terminal: Terminal) -> None:
    done = terminal("stop-cluster", *TARGET)
    assert (done.code, done.out) == (0, "stop of c1.\n")


def test_the_end_of_a_cluster_is_waited_for(terminal: Terminal) -> None:
    terminal.backend.rented.late_calls = 2
    done = terminal("stop-cluster", *TARGET)
    assert (done.code, done.out) == (0, "stop of c1.\n")
    assert done.err == "Waiting for the end of cluster c1.\n"
    assert terminal.backend.rented.asked == [("stop", *TARGET)] * 3


def test_the_jobs_of_this_machine_are_not_ended_without_a_person(terminal: Terminal) -> None:
    done = terminal("stop-cluster", "local", "local")
    assert done.code != 0
    assert "preview of local." in done.err
    assert (
        "CONFIRMATION_REQUIRED: The jobs of cluster local on local keep running. Give --"
        in done.err
    )
    assert terminal.backend.rented.asked == [("preview", "local", "local")]
    assert terminal("stop-cluster", "local", "local", "--yes").code == 0
    assert terminal.backend.rented.asked[-1] == ("stop", "local", "local")


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_agrees_to_the_end_of_jobs(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda *_args, **_kwargs: answer)
    assert (terminal("stop-cluster", "local", "local").code == 0) is answer
    assert (("stop", "local", "local") in terminal.backend.rented.asked) is answer


def test_without_a_person_nothing_is_destroyed(terminal: Terminal) -> None:
    done = terminal("down-cluster", *TARGET)
    assert done.code != 0
    assert "preview of c1." in done.err
    assert "CONFIRMATION_REQUIRED: Cluster c1 on gcp was not changed. Give --yes" in done.err
    assert terminal.backend.rented.asked == [("preview", *TARGET)]


@pytest.mark.parametrize(("written", "code"), [("DOWN", 0), ("down", None)])
def test_a_person_has_to_write_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, written: str, code: int | None
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_args, **_kwargs: written)
    done = terminal("down-cluster", *TARGET)
    assert (done.code == 0) is (code == 0)
    assert (("down", *TARGET) in terminal.backend.rented.asked) is (code == 0)


def test_a_person_who_interrupts_the_question_is_not_told_of_a_defect(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> str:
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", interrupt)
    done = terminal("down-cluster", *TARGET)
    assert done.code == 130
    assert "INTERNAL" not in done.err
    assert terminal.backend.rented.asked == [("preview", *TARGET)]


def test_yes_is_enough(terminal: Terminal) -> None:
    done = terminal("down-cluster", *TARGET, "--yes", "--json")
    assert done.json["done"] is True
    assert terminal.backend.rented.asked == [("down", *TARGET)]
