"""The command that removes ended jobs, on a worker that answers from a script."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import typer

from flows.core.models import Pruned
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.pruning import PruneService
from mcp_server.services.worker_calls import WorkerCalls
from tests.cli.conftest import Terminal


class Worker(WorkerCalls):
    """Counts 3 old jobs, and notes what it was asked to do with them."""

    def __init__(self) -> None:
        super().__init__(cast("PrefectGateway", None))
        self.runs = 3
        self.asked: list[bool] = []

    async def call(self, flow: str, parameters: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        dry_run = parameters["dry_run"]
        self.asked.append(dry_run)
        what = "Would remove" if dry_run else "Removed"
        return Pruned(
            summary=f"{what} {self.runs} jobs",
            done=not dry_run,
            ended_before=datetime(2026, 9, 1, tzinfo=UTC),
            runs=self.runs,
            files=0,
            file_bytes=0,
        )


@pytest.fixture
def worker(terminal: Terminal) -> Worker:
    worker = Worker()
    terminal.services["prune"] = lambda _: PruneService(worker, keep_days=90)
    return worker


def test_a_dry_run_counts(terminal: Terminal, worker: Worker) -> None:
    done = terminal("prune", "--older-than", "30d", "--dry-run")
    assert (done.code, done.out, worker.asked) == (0, "Would remove 3 jobs\n", [True])


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(
    terminal: Terminal, worker: Worker, monkeypatch: pytest.MonkeyPatch, *, answer: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda *_args, **_kwargs: answer)
    done = terminal("prune")
    assert "Would remove 3 jobs" in done.err
    assert worker.asked == ([True, False] if answer else [True])
    assert (done.code == 0) is answer


def test_without_a_person_nothing_is_removed_unless_yes(terminal: Terminal, worker: Worker) -> None:
    refused = terminal("prune", "--json")
    assert refused.error["code"] == "CONFIRMATION_REQUIRED"
    assert worker.asked == [True]
    done = terminal("prune", "--yes", "--json")
    assert done.json["done"] is True
    assert worker.asked == [True, False]


def test_nothing_to_remove_is_not_asked_about(terminal: Terminal, worker: Worker) -> None:
    worker.runs = 0
    done = terminal("prune")
    assert (done.code, done.out) == (0, "Would remove 0 jobs\n")


def test_a_time_that_is_none_is_refused(terminal: Terminal, worker: Worker) -> None:
    done = terminal("prune", "--older-than", "soon", "--json")
    assert done.error["code"] == "INVALID_ARGUMENT"
    assert worker.asked == []
