"""The commands for clusters, on a worker that answers from a script."""

from typing import Any, cast

import pytest
import typer

from flows.core.models import ClusterState, ClusterStatus
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.cluster_jobs import ClusterJobs
from mcp_server.services.clusters import ClusterService
from tests.cli.conftest import Terminal
from tests.mcp_server.runs_stub import Runs, run_of
from tests.mcp_server.test_clusters import Worker

TARGET = ("gcp", "c1")
RENTED = ClusterStatus(
    cloud="gcp",
    cluster_name="c1",
    state=ClusterState.UP,
    live_jobs=["1", "2"],
    hourly_cost=3.5,
    uptime_seconds=7200,
    cost_so_far=7,
)
HERE = ClusterStatus(cloud="local", cluster_name="local", state=ClusterState.UP, live_jobs=["l1"])


class SlowWorker(Worker):
    """Confirms the end of a cluster only after some orders."""

    late_calls = 0

    async def order(self, flow: str, *args: Any, **kwargs: Any) -> Any:
        self.confirms = self.asked.count(flow) >= self.late_calls
        return await super().order(flow, *args, **kwargs)


@pytest.fixture
def runs() -> Runs:
    """A running job on the local cluster, which ends when it is asked to."""
    return Runs(run_of("here", labels={"oumi.launcher_job_id": "l1"}))


@pytest.fixture
def worker(terminal: Terminal, runs: Runs) -> SlowWorker:
    worker = SlowWorker(cast("PrefectGateway", None))
    worker.clusters = [RENTED, HERE]
    jobs = ClusterJobs(cast("PrefectGateway", runs))
    terminal.services["clusters"] = lambda _: ClusterService(worker, jobs)
    return worker


def test_clusters_are_listed_with_what_they_cost(terminal: Terminal, worker: SlowWorker) -> None:
    worker.clusters, worker.unavailable = [RENTED], {"slurm": "It is away."}
    done = terminal("clusters", "--cloud", "gcp")
    header, row = done.out.splitlines()
    assert header.split()[:6] == ["CLOUD", "CLUSTER", "STATE", "JOBS", "UPTIME", "PER"]
    assert row.split() == ["gcp", "c1", "up", "2", "2:00:00", "$3.50", "$7.00"]
    assert done.err == "slurm did not answer: It is away.\n"
    assert worker.asked == ["list-clusters"]


@pytest.mark.usefixtures("worker")
def test_a_cluster_is_stopped(terminal: Terminal) -> None:
    done = terminal("stop-cluster", *TARGET)
    assert (done.code, done.out) == (0, "stop-cluster done\n")


def test_the_end_of_a_cluster_is_waited_for(terminal: Terminal, worker: SlowWorker) -> None:
    worker.late_calls = 2
    done = terminal("stop-cluster", *TARGET)
    assert (done.code, done.out) == (0, "stop-cluster done\n")
    assert done.err == "Waiting for the end of cluster c1.\n"
    assert worker.asked == ["stop-cluster"] * 3


def test_the_jobs_of_this_machine_are_not_ended_without_a_person(
    terminal: Terminal, worker: SlowWorker, runs: Runs
) -> None:
    done = terminal("stop-cluster", "local", "local")
    assert done.code != 0
    assert "every live job of cluster local on local is cancelled: job-here (running)" in done.err
    assert (
        "CONFIRMATION_REQUIRED: The jobs of cluster local on local keep running. Give --"
        in done.err
    )
    assert (worker.asked, runs.asked) == (["list-clusters"], [])
    assert terminal("stop-cluster", "local", "local", "--yes").code == 0
    assert (worker.asked[-1], runs.asked) == ("stop-cluster", ["here"])


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_agrees_to_the_end_of_jobs(
    terminal: Terminal,
    worker: SlowWorker,
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda *_args, **_kwargs: answer)
    assert (terminal("stop-cluster", "local", "local").code == 0) is answer
    assert ("stop-cluster" in worker.asked) is answer
    assert (runs.asked == ["here"]) is answer


def test_without_a_person_nothing_is_destroyed(terminal: Terminal, worker: SlowWorker) -> None:
    done = terminal("down-cluster", *TARGET)
    assert done.code != 0
    assert "IRREVERSIBLE: cluster c1 on gcp, its disks and what runs on it" in done.err
    assert "CONFIRMATION_REQUIRED: Cluster c1 on gcp was not changed. Give --yes" in done.err
    assert worker.asked == ["list-clusters"]


@pytest.mark.parametrize(("written", "code"), [("DOWN", 0), ("down", None)])
def test_a_person_has_to_write_it(
    terminal: Terminal,
    worker: SlowWorker,
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    code: int | None,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda *_args, **_kwargs: written)
    done = terminal("down-cluster", *TARGET)
    assert (done.code == 0) is (code == 0)
    assert ("down-cluster" in worker.asked) is (code == 0)


def test_a_person_who_interrupts_the_question_is_not_told_of_a_defect(
    terminal: Terminal, worker: SlowWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> str:
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", interrupt)
    done = terminal("down-cluster", *TARGET)
    assert done.code == 130
    assert "INTERNAL" not in done.err
    assert worker.asked == ["list-clusters"]


def test_yes_is_enough(terminal: Terminal, worker: SlowWorker) -> None:
    done = terminal("down-cluster", *TARGET, "--yes", "--json")
    assert done.json["done"] is True
    assert worker.asked == ["down-cluster"]
