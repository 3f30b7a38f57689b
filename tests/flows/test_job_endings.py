"""How jobs end: the launcher's word becomes one Prefect state and one reason."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.client.schemas.objects import StateType

from flows.core import names
from flows.core.errors import CloudUnavailable, InvalidConfig, LaunchFailed
from flows.core.states import JobState, TerminationReason
from flows.launcher.port import LauncherState
from tests.flows.bench import PATIENCE_SECONDS, Bench, Outage
from tests.support.fake_launcher import FakeJob
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


async def test_a_job_that_ends_well_is_completed(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.succeed()
        assert await bench.ending(job_id) == (
            JobState.SUCCEEDED,
            TerminationReason.COMPLETED,
            "The job finished.",
        )
    assert await bench.states(job_id) == [
        "Scheduled",
        "Pending",
        "Launching",
        "Running",
        "Completed",
    ]


@pytest.mark.parametrize(
    ("end", "state", "name", "reason", "text"),
    [
        (
            lambda job: job.fail(TerminationReason.NONZERO_EXIT, "The job exited with code 3."),
            JobState.FAILED,
            "Failed",
            TerminationReason.NONZERO_EXIT,
            "The job exited with code 3.",
        ),
        (
            lambda job: job.fail(TerminationReason.SETUP_FAILED, "The setup script failed."),
            JobState.FAILED,
            "Failed",
            TerminationReason.SETUP_FAILED,
            "The setup script failed.",
        ),
        (
            lambda job: job.fail(TerminationReason.PREEMPTED, "The node was taken away."),
            JobState.FAILED,
            "Preempted",
            TerminationReason.PREEMPTED,
            "The node was taken away.",
        ),
        (
            lambda job: job.fail(TerminationReason.TIMED_OUT, "The time limit was reached."),
            JobState.FAILED,
            "TimedOut",
            TerminationReason.TIMED_OUT,
            "The time limit was reached.",
        ),
        (
            lambda job: job.fail(TerminationReason.LOST, "Its end is unknown."),
            JobState.CRASHED,
            "Crashed",
            TerminationReason.LOST,
            "Its end is unknown.",
        ),
        (
            lambda job: job.end(LauncherState.CANCELLED),
            JobState.CANCELLED,
            "Cancelled",
            TerminationReason.CANCELLED_EXTERNALLY,
            "Cancelled on the cluster, not by oumi-flows.",
        ),
    ],
    ids=["exit", "setup", "preempted", "timed out", "lost", "cancelled externally"],
)
async def test_a_job_ends_as_the_launcher_says(
    bench: Bench,
    end: Callable[[FakeJob], None],
    state: JobState,
    name: str,
    reason: TerminationReason,
    text: str,
) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        end(await bench.launched(job_id))
        assert await bench.ending(job_id) == (state, reason, text)
    assert (await bench.run(job_id)).state_name == name


async def test_a_job_that_the_cluster_no_longer_knows_is_lost(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(vanished=0.3)
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        del bench.launcher.jobs[job.key]
        state, reason, _ = await bench.ending(job_id)
    assert (state, reason) == (JobState.CRASHED, TerminationReason.LOST)
    assert len(bench.launcher.launches) == 1


async def test_a_cluster_that_does_not_answer_changes_no_state(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        bench.launcher.unreachable = "the cluster is on holiday"
        artifact = await eventually(
            lambda: _unreachable_artifact(bench, job_id), timeout=PATIENCE_SECONDS
        )
        assert artifact == "the cluster is on holiday"
        job.succeed()
        seen = bench.launcher.calls["observe"]
        await eventually(
            lambda: bench.launcher.calls["observe"] > seen + 2, timeout=PATIENCE_SECONDS
        )
        assert (await bench.run(job_id)).state_name == "Running"
        bench.launcher.unreachable = None
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def _unreachable_artifact(bench: Bench, job_id: object) -> str | None:
    found = await bench.client.read_artifacts()
    for artifact in found:
        if artifact.flow_run_id == job_id and artifact.metadata_:
            return artifact.metadata_.get("unreachable_reason")
    return None


async def test_a_cluster_that_never_comes_back_is_given_up_after_the_time_set(
    bench: Bench,
) -> None:
    settings = bench.settings.model_copy(update={"unreachable_timeout_seconds": 0.5})
    async with bench.worker(settings=settings):
        job_id = await bench.submit("hold")
        await bench.launched(job_id)
        bench.launcher.unreachable = "gone fishing"
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.CRASHED, TerminationReason.LOST)
    assert "gone fishing" in text


async def test_a_refused_launch_fails_the_job(bench: Bench) -> None:
    bench.launcher.refusal = LaunchFailed("no capacity.", "Try another region")
    async with bench.worker():
        job_id = await bench.submit("hold")
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.LAUNCH_FAILED,
            "no capacity. Try another region.",
        )


async def test_a_cloud_that_the_launcher_lacks_fails_the_job(bench: Bench) -> None:
    bench.launcher.refusal = CloudUnavailable("Oumi knows no cloud named x", "Use another")
    async with bench.worker():
        job_id = await bench.submit("hold")
        assert (await bench.ending(job_id))[:2] == (
            JobState.FAILED,
            TerminationReason.LAUNCH_FAILED,
        )


async def test_a_config_that_the_launcher_refuses_is_invalid_and_not_retried(bench: Bench) -> None:
    bench.launcher.refusal = InvalidConfig("num_nodes is 2", "Set num_nodes to 1")
    async with bench.worker():
        job_id = await bench.submit("hold", max_retries=3)
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.INVALID_CONFIG,
            "num_nodes is 2. Set num_nodes to 1.",
        )
    assert len(bench.launcher.launches) == 1


async def test_a_config_that_is_gone_fails_the_job_and_launches_nothing(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit_config(bench.folder / "gone.yaml")
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)
    assert "gone.yaml" in text
    assert bench.launcher.launches == []


@pytest.mark.parametrize(
    "parameters", [{}, {"request": {"config_path": 7}}, {"request": None}, {"request": "text"}]
)
async def test_a_run_with_parameters_that_are_no_job_fails(
    bench: Bench, parameters: dict[str, object]
) -> None:
    async with bench.worker():
        job_id = await bench.submit_parameters(parameters)
        state, reason, _ = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)


async def test_the_handle_is_on_the_run(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        job.log_path = bench.folder / "job.log"
        await eventually(lambda: _label(bench, job_id, "oumi.log_path"), timeout=PATIENCE_SECONDS)
        labels = (await bench.run(job_id)).labels
        job.succeed()
        await bench.ending(job_id)
    wanted = {
        "oumi.attempt": 1,
        "oumi.cluster_name": "local",
        "oumi.launcher_job_id": names.launch_key(job_id, 1),
        "oumi.log_path": str(bench.folder / "job.log"),
    }
    assert labels == {**labels, **wanted}


async def _label(bench: Bench, job_id: object, key: str) -> object:
    return (await bench.run(job_id)).labels.get(key)  # type: ignore[arg-type]


async def test_what_does_not_fit_is_queued_and_starts_when_there_is_room(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"local_slots": 1})
    async with bench.worker(settings=settings):
        first = await bench.submit("hold")
        job = await bench.launched(first)
        second = await bench.submit("exit 0")
        await bench.reaches(second, JobState.QUEUED)
        job.succeed()
        assert (await bench.ending(second))[1] is TerminationReason.COMPLETED


async def test_a_paused_run_still_ends_as_its_job_does(bench: Bench) -> None:
    async with bench.worker() as worker:
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.set_state(job_id, StateType.PAUSED)
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
        await bench.let_go(worker)


@pytest.mark.parametrize("failing", [0, 500, 503], ids=["refused", "500", "503"])
async def test_a_server_that_fails_for_a_while_leaves_no_false_state(
    bench: Bench, outage: Outage, failing: int
) -> None:
    """One job ends meanwhile, one begins to run, one is launched, one is cancelled."""
    async with bench.worker():
        ends, runs, launches, cancelled = [await bench.submit("hold") for _ in range(4)]
        for job_id in (ends, cancelled):
            await bench.launched(job_id)
            await bench.reaches(job_id, JobState.RUNNING)
        await bench.cancel(cancelled)
        outage.failing = failing
        (await bench.launched(ends)).fail(TerminationReason.NONZERO_EXIT, "It failed.")
        await eventually(lambda: outage.refused > 12, timeout=PATIENCE_SECONDS)
        outage.failing = None
        for job_id in (runs, launches):
            (await bench.launched(job_id)).succeed()
        reasons = [(await bench.ending(job_id))[1] for job_id in (ends, runs, launches, cancelled)]
    assert reasons == [
        TerminationReason.NONZERO_EXIT,
        TerminationReason.COMPLETED,
        TerminationReason.COMPLETED,
        TerminationReason.USER_CANCELLED,
    ]
    assert sorted(bench.launcher.launches) == sorted(
        names.launch_key(job_id, 1) for job_id in (ends, runs, launches, cancelled)
    )


async def test_a_job_that_ends_at_once_costs_the_server_few_calls(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    sends = httpx.AsyncClient.send

    async def send(client: httpx.AsyncClient, request: httpx.Request, **how: Any) -> Any:
        if str(job_id) in request.url.path and task_of_the_worker():
            asked[f"{request.method} {request.url.path.rpartition(str(job_id))[2]}"] += 1
        return await sends(client, request, **how)

    def task_of_the_worker() -> bool:
        return asyncio.current_task() is not test

    test = asyncio.current_task()
    job_id = await bench.submit("exit 0")
    monkeypatch.setattr(httpx.AsyncClient, "send", send)
    async with bench.worker():
        await bench.ending(job_id)
    assert asked["POST /set_state"] <= 4, asked
    assert asked["PATCH "] <= 2, asked
    assert asked["GET "] <= 3, asked
    assert asked["PATCH /labels"] <= 2, asked
    tasks = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[job_id]))

    async def has_both() -> bool:
        # The server makes task runs of events, which arrive later.
        found = await bench.client.read_task_runs(task_run_filter=tasks)
        return {task.name for task in found} == {"launch", "watch"}

    await eventually(has_both, timeout=PATIENCE_SECONDS)
