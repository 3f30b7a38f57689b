"""The cluster tools, on a worker that answers from a script."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, NoReturn, TypeVar, cast

import pytest
from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from flows.core.errors import CloudUnavailable, EngineUnavailable, OperationTimeout, OumiFlowsError
from flows.core.models import Answer, ClusterEnd, ClusterList, ClusterState, ClusterStatus
from flows.core.settings import Settings
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.server import Options, Parts, build_server, make_parts
from mcp_server.services.cluster_jobs import ClusterJobs
from mcp_server.services.clusters import ClusterService
from mcp_server.services.worker_calls import WorkerCalls
from tests.mcp_server.calls import error, ok
from tests.mcp_server.runs_stub import Runs, run_of

T = TypeVar("T", bound=Answer)
Era = Literal["auto", "legacy"]

HERE = {"cloud": "local", "cluster_name": "local"}
TARGET = {"cloud": "gcp", "cluster_name": "c1"}
CONFIRMED = {"confirm": True, "user_confirmation": "DOWN"}
UP = ClusterStatus(
    cloud="gcp", cluster_name="c1", state=ClusterState.UP, live_jobs=["1", "2"], hourly_cost=3.5
)


class Worker(WorkerCalls):
    """Has one cluster, and remembers what it was asked."""

    def __init__(self, gateway: PrefectGateway) -> None:
        super().__init__(gateway)
        self.clusters = [UP]
        self.unavailable: dict[str, str] = {}
        self.asked: list[str] = []
        self.refusal: OumiFlowsError | None = None
        self.confirms = True

    async def call(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str = "",
    ) -> T:
        self._asked_for(flow)
        answer = ClusterList(
            summary="1 cluster.", clusters=self.clusters, unavailable=self.unavailable
        )
        return answer_type.model_validate(answer.model_dump())

    async def order(
        self,
        flow: str,
        parameters: Mapping[str, Any],
        answer_type: type[T],
        *,
        timeout_seconds: float,
        name: str,
    ) -> T | None:
        self._asked_for(flow)
        if not self.confirms:
            return None
        ended = "stopped" if flow == "stop-cluster" else "gone"
        answer = ClusterEnd(summary=f"{flow} done", state=ended, **parameters)
        return answer_type.model_validate(answer.model_dump())

    def _asked_for(self, flow: str) -> None:
        self.asked.append(flow)
        if self.refusal:
            raise self.refusal


@pytest.fixture
def engineless(settings: Settings) -> Parts:
    def no_engine(**_: object) -> NoReturn:
        raise EngineUnavailable("There is no engine in this test", "Start none")

    return make_parts(settings, no_engine)


@pytest.fixture
def worker(engineless: Parts) -> Worker:
    return Worker(engineless.gateway)


@pytest.fixture
def runs() -> Runs:
    """A running and a waiting job on the local cluster, and two elsewhere."""
    return Runs(
        run_of("here", labels={"oumi.launcher_job_id": "l1"}),
        run_of("waits", "SCHEDULED"),
        run_of("other", labels={"oumi.cluster_name": "nightly"}),
        run_of("cloud", cloud="gcp", labels={"oumi.cluster_name": "local"}),
    )


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    return request.param


Connect = Callable[..., AbstractAsyncContextManager[tuple[Client, list[str]]]]


@pytest.fixture
def connect(engineless: Parts, worker: Worker, runs: Runs, era: Era) -> Connect:
    """Clients of either era; with an `answer`, they can ask their person."""

    @asynccontextmanager
    async def connect(
        answer: ElicitResult | None = None, **options: Any
    ) -> AsyncGenerator[tuple[Client, list[str]]]:
        jobs = ClusterJobs(cast("PrefectGateway", runs))
        parts = replace(engineless, clusters=ClusterService(worker, jobs))
        questions: list[str] = []

        async def ask(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
            del context
            questions.append(params.message)
            assert answer is not None
            return answer

        server = build_server(parts, Options(**options))
        callback = ask if answer is not None else None
        async with Client(server, mode=era, elicitation_callback=callback) as client:
            yield client, questions

    return connect


async def test_clusters_are_listed(connect: Connect) -> None:
    async with connect() as (client, _):
        listed = await ok(client, "list_clusters", cloud="gcp")
    assert listed["summary"] == "1 cluster."
    assert listed["clusters"] == [UP.model_dump(mode="json")]


async def test_a_long_list_is_cut_and_says_so(connect: Connect, worker: Worker) -> None:
    worker.clusters = [UP] * 100
    async with connect() as (client, _):
        result = await client.call_tool("list_clusters", {})
    assert result.structured_content is not None
    assert len(json.dumps(result.structured_content)) <= 12_000
    assert "Only the first 40" in result.structured_content["summary"]


async def test_a_cluster_is_stopped(connect: Connect, worker: Worker) -> None:
    async with connect() as (client, _):
        stopped = await ok(client, "stop_cluster", **TARGET)
    assert (stopped["done"], stopped["state"]) == (True, "stopped")
    assert worker.asked == ["stop-cluster"]


LOCAL = ClusterStatus(
    cloud="local", cluster_name="local", state=ClusterState.UP, live_jobs=["l1", "l2"]
)
LOSS = (
    "every live job of cluster local on local is cancelled: job-here (running), "
    "job-waits (scheduled), l2. Logs and checkpoints stay."
)


async def test_the_jobs_of_this_machine_are_named_before_they_are_ended(
    connect: Connect, worker: Worker, runs: Runs
) -> None:
    worker.clusters = [LOCAL]
    async with connect() as (client, _):
        preview = await ok(client, "stop_cluster", **HERE)
    assert preview["summary"] == (
        f"{LOSS} Nothing was changed. If the person agrees, call again with confirm=true."
    )
    assert (preview["done"], preview["live_jobs"]) == (False, ["l1", "l2"])
    assert (runs.asked, worker.asked) == ([], ["list-clusters"] * 2)


@pytest.mark.parametrize("answer", [True, False, None])
async def test_a_person_is_asked_before_the_jobs_of_this_machine_are_ended(
    connect: Connect,
    worker: Worker,
    runs: Runs,
    answer: bool | None,
) -> None:
    worker.clusters = [LOCAL]
    said = (
        ElicitResult(action="decline")
        if answer is None
        else ElicitResult(action="accept", content={"stop": answer})
    )
    async with connect(said) as (client, questions):
        if answer:
            assert (await ok(client, "stop_cluster", **HERE))["state"] == "stopped"
        else:
            refused = await error(client, "stop_cluster", **HERE, confirm=True)
            assert refused.startswith("CONFIRMATION_REQUIRED: The person did not agree to cancel")
    assert questions == [f"{LOSS} Cancel them?"]
    assert sorted(runs.asked) == (["here", "waits"] if answer else [])
    assert ("stop-cluster" in worker.asked) is bool(answer)


@pytest.mark.parametrize(
    ("tool", "arguments"), [("stop_cluster", {"confirm": True}), ("down_cluster", CONFIRMED)]
)
async def test_jobs_of_this_machine_are_cancelled_as_any_job_before_its_cluster_ends(
    connect: Connect, worker: Worker, runs: Runs, tool: str, arguments: dict[str, Any]
) -> None:
    worker.clusters = [LOCAL]
    runs.after = "CANCELLING"
    flow = tool.replace("_", "-")
    async with connect() as (client, _):
        change = await ok(client, tool, **HERE, **arguments)
        assert (change["done"], flow in worker.asked) == (False, False)
        assert "Its jobs end first: 2 jobs on local/local: 2 cancelling." in change["summary"]
        runs.end("here", "waits")
        worker.clusters = [LOCAL.model_copy(update={"live_jobs": []})]
        change = await ok(client, tool, **HERE, **arguments)
    assert (change["done"], worker.asked[-1]) == (True, flow)
    assert sorted(runs.asked) == ["here", "waits"]


async def test_there_is_no_question_where_no_job_would_be_ended(
    connect: Connect, worker: Worker, runs: Runs
) -> None:
    worker.clusters = [LOCAL.model_copy(update={"live_jobs": []})]
    runs.end("here", "waits")
    async with connect(ElicitResult(action="decline")) as (client, questions):
        stopped = await ok(client, "stop_cluster", **HERE)
    assert (stopped["state"], questions) == ("stopped", [])


async def test_a_local_cluster_that_is_not_there_leaves_jobs_alone(
    connect: Connect, worker: Worker, runs: Runs
) -> None:
    worker.clusters = []
    async with connect() as (client, _):
        for tool, sure in (("stop_cluster", {"confirm": True}), ("down_cluster", CONFIRMED)):
            refused = await error(client, tool, **HERE, **sure)
            assert refused.startswith("CLUSTER_NOT_FOUND: ")
    assert runs.asked == []


@pytest.mark.parametrize(
    ("tool", "arguments", "state"),
    [
        ("stop_cluster", {}, "stopping"),
        ("down_cluster", CONFIRMED, "ending"),
    ],
)
async def test_an_end_that_is_not_confirmed_is_not_called_one(
    connect: Connect, worker: Worker, tool: str, arguments: dict[str, Any], state: str
) -> None:
    worker.confirms = False
    async with connect() as (client, _):
        change = await ok(client, tool, **TARGET, **arguments)
    assert (change["done"], change["state"]) == (False, state)
    assert change["summary"] == (
        "The end of cluster c1 on gcp was ordered and is not confirmed yet. Call again, or see "
        "list_clusters."
    )


@pytest.mark.parametrize("tool", ["stop_cluster", "down_cluster"])
async def test_a_cluster_that_does_not_answer_in_time_is_as_it_was(
    connect: Connect, worker: Worker, tool: str
) -> None:
    worker.refusal = OperationTimeout("The worker did not answer in time", "Try again")
    async with connect() as (client, _):
        text = await error(client, tool, **TARGET, **({} if tool == "stop_cluster" else CONFIRMED))
    assert text.startswith("CLUSTER_UNREACHABLE: Cluster c1 on gcp did not answer in time; nothing")


async def test_a_cluster_beyond_those_that_a_list_shows_is_found(
    connect: Connect, worker: Worker
) -> None:
    others = [UP.model_copy(update={"cluster_name": f"o{number}"}) for number in range(60)]
    worker.clusters = [*others, UP]
    async with connect() as (client, _):
        preview = await ok(client, "down_cluster", **TARGET)
    assert preview["state"] == "up"


@pytest.mark.parametrize(
    "arguments", [{}, {"confirm": True}, {"confirm": True, "user_confirmation": "down"}]
)
async def test_without_confirmation_a_preview_changes_nothing(
    connect: Connect, worker: Worker, arguments: dict[str, Any]
) -> None:
    async with connect() as (client, _):
        preview = await ok(client, "down_cluster", **TARGET, **arguments)
    assert preview["done"] is False
    assert preview["state"] == "up"
    assert preview["live_jobs"] == ["1", "2"]
    assert preview["summary"] == (
        "IRREVERSIBLE: cluster c1 on gcp, its disks and what runs on it (2 live jobs) are "
        "destroyed. Nothing was changed. If the person agrees, call again with confirm=true and "
        'user_confirmation="DOWN".'
    )
    assert worker.asked == ["list-clusters"]


async def test_with_both_arguments_it_is_destroyed(connect: Connect, worker: Worker) -> None:
    async with connect() as (client, _):
        gone = await ok(client, "down_cluster", **TARGET, confirm=True, user_confirmation="DOWN")
    assert (gone["done"], gone["state"]) == (True, "gone")
    assert worker.asked == ["down-cluster"]


async def test_a_person_who_can_be_asked_is_asked(connect: Connect, worker: Worker) -> None:
    yes = ElicitResult(action="accept", content={"destroy": True})
    async with connect(yes) as (client, questions):
        gone = await ok(client, "down_cluster", **TARGET)
    assert gone["state"] == "gone"
    assert questions == [
        "IRREVERSIBLE: cluster c1 on gcp, its disks and what runs on it (2 live jobs) are "
        "destroyed. Destroy it?"
    ]
    assert worker.asked[-1] == "down-cluster"


@pytest.mark.parametrize(
    "answer",
    [
        ElicitResult(action="accept", content={"destroy": False}),
        ElicitResult(action="decline"),
        ElicitResult(action="cancel"),
    ],
)
async def test_a_person_who_does_not_agree_keeps_the_cluster(
    connect: Connect, worker: Worker, answer: ElicitResult
) -> None:
    async with connect(answer) as (client, _):
        refused = await error(
            client, "down_cluster", **TARGET, confirm=True, user_confirmation="DOWN"
        )
    assert refused.startswith("CONFIRMATION_REQUIRED: The person did not agree")
    assert "down-cluster" not in worker.asked


async def test_a_cluster_that_is_not_there_is_not_asked_about(
    connect: Connect, worker: Worker
) -> None:
    worker.clusters = []
    yes = ElicitResult(action="accept", content={"destroy": True})
    async with connect(yes) as (client, questions):
        refused = await error(client, "down_cluster", **TARGET)
    assert refused.startswith("CLUSTER_NOT_FOUND: There is no cluster 'c1' on gcp")
    assert questions == []


async def test_what_the_worker_refuses_reaches_the_client(connect: Connect, worker: Worker) -> None:
    worker.refusal = CloudUnavailable("no SkyPilot API server runs", "Start one")
    async with connect() as (client, _):
        for tool, arguments in (
            ("list_clusters", {"cloud": "gcp"}),
            ("stop_cluster", TARGET),
            ("down_cluster", TARGET),
        ):
            text = await error(client, tool, **arguments)
            assert text == "CLOUD_UNAVAILABLE: no SkyPilot API server runs. Start one."


async def test_a_read_only_server_only_lists(connect: Connect, worker: Worker) -> None:
    async with connect(read_only=True) as (client, _):
        await ok(client, "list_clusters")
        for tool in ("stop_cluster", "down_cluster"):
            assert (await error(client, tool, **TARGET)).startswith("READ_ONLY: ")
    assert worker.asked == ["list-clusters"]


async def test_a_preview_names_the_jobs_whose_results_were_not_collected(
    connect: Connect, runs: Runs
) -> None:
    on_cluster = {"oumi.cluster_name": "c1", "oumi.launched_attempt": 2}
    tags = ["oumi", "cloud:gcp", "cluster:c1"]
    for name, labels in {
        "lost": {},
        "partly": {"oumi.collected_part": "best into /copies"},
        "older": {"oumi.collected_attempt": 1},
        "saved": {"oumi.collected_attempt": 2},
    }.items():
        run = run_of(name, "COMPLETED", cloud="gcp", tags=tags, labels=on_cluster | labels)
        runs.runs[name] = run
    async with connect() as (client, _):
        preview = await ok(client, "down_cluster", **TARGET)
    assert (
        "The results of 3 jobs were not collected: job-lost (succeeded), job-partly (succeeded, "
        "only best into /copies collected), job-older (succeeded). collect_results copies them "
        "first. Nothing was changed."
    ) in preview["summary"]
