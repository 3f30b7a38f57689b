"""The command of budgets, on a worker that keeps them in memory."""

from typing import cast

import pytest
import typer

from tests.cli.conftest import Terminal
from tests.mcp_server.prefect_stub import PrefectServer
from tests.support.budget_worker import BudgetWorker, budget_service


@pytest.fixture
def worker(terminal: Terminal) -> BudgetWorker:
    worker = BudgetWorker()
    terminal.engine.server = lambda: cast("PrefectServer", None)  # nothing asks it
    terminal.services["budgets"] = lambda _: budget_service(worker)
    return worker


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who agrees to everything."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda *_args, **_kwargs: True)


def test_a_budget_is_set_lowered_and_shown(terminal: Terminal, worker: BudgetWorker) -> None:
    assert terminal("budget", "set", "--period", "day", "--cost", "50").code == 0
    assert terminal("budget", "set", "--period", "day", "--cost", "40", "--jobs", "9").code == 0
    done = terminal("budget", "--json")
    (row,) = [row for row in done.json["budgets"] if row["percent"] is not None]
    assert (row["period"], row["limits"]) == ("day", {"cost": 40.0, "gpu_hours": None, "jobs": 9})
    assert row["left"]["cost"] == 40.0
    shown = terminal("budget")
    assert "$40.00, 9 jobs" in shown.out
    assert "A job without GPUs counts as one GPU" in shown.err


@pytest.mark.parametrize(
    "change", [("set", "--cost", "60"), ("raise", "--cost", "60"), ("remove",)]
)
def test_without_a_person_no_budget_is_raised(
    terminal: Terminal, worker: BudgetWorker, change: tuple[str, ...]
) -> None:
    terminal("budget", "set", "--cost", "50")
    done = terminal("budget", *change)
    assert done.code != 0
    assert "CONFIRMATION_REQUIRED" in done.err
    (kept,) = worker.budgets.budgets
    assert kept.limits.cost == 50


@pytest.mark.usefixtures("person")
def test_a_person_raises_and_removes_a_budget(terminal: Terminal, worker: BudgetWorker) -> None:
    terminal("budget", "set", "--cost", "50")
    assert terminal("budget", "raise", "--cost", "60").code == 0
    assert worker.budgets.budgets[0].limits.cost == 60
    assert terminal("budget", "remove").code == 0
    assert not worker.budgets.budgets


def test_a_change_says_what_it_changes(terminal: Terminal, worker: BudgetWorker) -> None:
    done = terminal("budget", "set")
    assert "INVALID_ARGUMENT: no limit was given" in done.err
    assert not worker.budgets.budgets


def test_a_schedule_has_a_budget_of_its_own(terminal: Terminal, worker: BudgetWorker) -> None:
    assert terminal("budget", "set", "--schedule", "nightly", "--gpu-hours", "2").code == 0
    assert worker.budgets.budgets[0].scope == "schedule:nightly"
