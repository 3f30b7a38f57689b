"""One job is launched once per attempt, whatever happens to the worker that watches it."""

import threading
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.core import names
from flows.core.errors import LaunchFailed
from flows.core.models import RetryCause
from flows.core.provenance import load
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.core.stopwatch import Stopwatch
from flows.job.launch_plan import LaunchPlan
from flows.job.retries import RETRY_RULES, RetryRule
from flows.job.shared_output import jobs_that_shared
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def retry_soon(bench: Bench) -> None:
    bench.wait(retry=0.2)


async def test_a_restarted_worker_attaches_to_the_job_it_finds(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    assert (await bench.run(job_id)).state_name == "Running"
    async with bench.worker() as worker:
        await eventually(lambda: job_id in worker.active, timeout=PATIENCE_SECONDS)
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert bench.launcher.launches == [names.launch_key(job_id, 1)]


async def test_a_job_that_ended_while_nobody_watched_ends_as_it_did(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    job.fail(TerminationReason.OUT_OF_MEMORY, "The job was killed.")
    async with bench.worker():
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.OUT_OF_MEMORY,
            "The job was killed.",
        )
    assert bench.launcher.launches == [names.launch_key(job_id, 1)]


async def test_a_worker_cut_off_during_a_launch_leaves_one_job(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.launcher.launching.wait()
    bench.launcher.gate.set()
    job = await bench.launched(job_id)
    async with bench.worker():
        await bench.reaches(job_id, JobState.RUNNING)
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert list(bench.launcher.jobs) == [names.launch_key(job_id, 1)]


async def test_a_job_that_vanished_while_nobody_watched_is_lost_and_not_launched_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(vanished=0.3)
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    del bench.launcher.jobs[job.key]
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.LOST
    assert len(bench.launcher.launches) == 1


async def test_a_pending_run_whose_worker_died_is_adopted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(unowned=0.2)
    job_id = await bench.submit("exit 0")
    await bench.set_state(job_id, StateType.PENDING)
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def test_a_paused_run_whose_worker_died_is_adopted(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.set_state(job_id, StateType.PAUSED)
    job.succeed()
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED


async def test_a_run_that_somebody_concluded_is_not_adopted(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    await bench.set_state(job_id, StateType.FAILED)
    async with bench.worker() as worker:
        another = await bench.submit("exit 0")
        await bench.ending(another)
        assert job_id not in worker.active
    assert (await bench.states(job_id))[-1] == "Failed"


async def test_an_attempt_that_was_preempted_is_followed_by_another(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", max_retries=1)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.fail(TerminationReason.PREEMPTED, "The node was taken away.")
        again = await bench.launched(job_id, attempt=2)
        await bench.reaches(job_id, JobState.RUNNING)
        again.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    states = await bench.states(job_id)
    assert states == [
        "Scheduled",
        "Pending",
        "Launching",
        "Running",
        "AwaitingRetry",
        "Pending",
        "Launching",
        "Running",
        "Completed",
    ]
    assert (await bench.run(job_id)).labels["oumi.attempt"] == 2


async def test_the_last_attempt_that_was_preempted_fails(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold", max_retries=1)
        for attempt in (1, 2):
            job = await bench.launched(job_id, attempt=attempt)
            job.fail(TerminationReason.PREEMPTED, "The node was taken away.")
        assert (await bench.ending(job_id))[1] is TerminationReason.PREEMPTED
    assert (await bench.run(job_id)).state_name == "Preempted"


async def test_a_launch_that_failed_is_tried_again_as_often_as_asked(bench: Bench) -> None:
    bench.launcher.refusal = LaunchFailed("no capacity", "Try another region")
    async with bench.worker():
        job_id = await bench.submit("hold", max_retries=2)
        assert (await bench.ending(job_id))[1] is TerminationReason.LAUNCH_FAILED
    assert bench.launcher.launches == [names.launch_key(job_id, n) for n in (1, 2, 3)]


async def test_a_job_that_failed_by_itself_is_not_tried_again(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("exit 3", max_retries=2)
        assert (await bench.ending(job_id))[1] is TerminationReason.NONZERO_EXIT
    assert len(bench.launcher.launches) == 1


async def test_a_job_retried_by_a_person_gets_a_new_attempt(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        (await bench.launched(job_id)).fail(TerminationReason.NONZERO_EXIT, "It failed.")
        assert (await bench.ending(job_id))[0] is JobState.FAILED
        await bench.retry(job_id)
        (await bench.launched(job_id, attempt=2)).succeed()
        await eventually(lambda: _succeeded(bench, job_id), timeout=PATIENCE_SECONDS)
    assert len(bench.launcher.launches) == 2


async def test_the_progress_of_an_attempt_does_not_outlive_it(bench: Bench, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("{'loss': '2.5', 'step': 40}\n")

    async def progress() -> dict[str, str]:
        found = await bench.client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[job_id]),
                type=ArtifactFilterType(any_=["progress"]),
            )
        )
        metadata = (found[0].metadata_ if found else None) or {}
        return {key: metadata[key] for key in ("attempt", "step", "loss") if key in metadata}

    async with bench.worker():
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        job.log_path = log
        await eventually(progress, timeout=PATIENCE_SECONDS)
        assert await progress() == {"attempt": "1", "step": "40", "loss": "2.5"}
        job.fail(TerminationReason.NONZERO_EXIT, "It failed.")
        await bench.ending(job_id)
        await bench.retry(job_id)
        again = await bench.launched(job_id, attempt=2)
        assert await progress() == {"attempt": "2"}
        again.succeed()
        await eventually(lambda: _succeeded(bench, job_id), timeout=PATIENCE_SECONDS)


async def test_jobs_that_write_to_one_folder_are_known_to_each_other(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    mine: FlowRun | None = None
    tags = names.run_tags(command="train", cloud="local")
    for name, folder in (("mine", "out"), ("other", "link/out"), ("apart", "out2")):
        labels = RunLabels(output_dir=str(tmp_path / folder)).as_labels()
        made = await bench.client.create_flow_run_from_deployment(
            bench.deployment_id, name=name, tags=tags, labels=labels
        )
        await bench.set_state(made.id, StateType.PENDING)
        await bench.set_state(made.id, StateType.RUNNING)
        if name == "mine":
            mine = await bench.run(made.id)
        else:
            await bench.set_state(made.id, StateType.COMPLETED)
    assert mine is not None
    shared = await jobs_that_shared(mine, bench.client)
    assert [text.partition(" ")[0] for text in shared.jobs] == ["other"]
    assert not shared.is_live


async def test_the_time_between_attempts_is_no_part_of_the_duration(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        (await bench.launched(job_id)).fail(TerminationReason.NONZERO_EXIT, "It failed.")
        await bench.ending(job_id)
        first = await _measured(bench, job_id)
        await bench.retry(job_id)
        (await bench.launched(job_id, attempt=2)).succeed()
        await eventually(lambda: _succeeded(bench, job_id), timeout=PATIENCE_SECONDS)
        second = await _measured(bench, job_id)
    assert (first.attempt, first.since) == (1, None)
    assert (second.attempt, second.since) == (2, None)
    assert 0 < first.before < second.before


async def _measured(bench: Bench, job_id: UUID) -> Stopwatch:
    watch = Stopwatch.parse((await bench.run(job_id)).labels.get("oumi.stopwatch"))
    assert watch is not None
    return watch


async def _succeeded(bench: Bench, job_id: object) -> bool:
    return (await bench.run(job_id)).state_name == "Completed"  # type: ignore[arg-type]


async def test_a_job_cancelled_before_it_began_and_retried_survives_a_restart(
    bench: Bench,
) -> None:
    """Its first attempt is its first, however often its run was begun."""
    job_id = await bench.submit("hold")
    await bench.cancel(job_id)
    await bench.retry(job_id)
    async with bench.worker():
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
    job.succeed()
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert bench.launcher.launches == [names.launch_key(job_id, 1)]


async def test_a_job_given_up_while_it_lived_is_taken_up_again_by_a_retry(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"unreachable_timeout_seconds": 0.3})
    async with bench.worker(settings=settings) as worker:
        job_id = await bench.submit("hold")
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        bench.launcher.unreachable = "the cluster is on holiday"
        assert (await bench.ending(job_id))[0] is JobState.CRASHED
        await bench.let_go(worker)
        bench.launcher.unreachable = None
        await bench.retry(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        assert job_id in worker.active
    # Its worker dies, and the job ends before the next one comes.
    job.succeed()
    async with bench.worker():
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert bench.launcher.launches == [names.launch_key(job_id, 1)]


async def test_a_cluster_unreachable_at_a_restart_is_waited_for(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.launcher.launching.wait()
    bench.launcher.gate.set()
    job = await bench.launched(job_id)
    bench.launcher.unreachable = "the cluster is on holiday"
    async with bench.worker():
        await eventually(lambda: bench.launcher.calls["find"] > 2, timeout=PATIENCE_SECONDS)
        bench.launcher.unreachable = None
        job.succeed()
        assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
    assert bench.launcher.launches == [names.launch_key(job_id, 1)]


async def test_what_a_job_ended_for_decides_whether_it_is_tried_again(bench: Bench) -> None:
    """The table of docs/jobs-and-states.md, each reason provoked."""
    failing = [
        reason
        for reason in TerminationReason
        if reason.job_state in (JobState.FAILED, JobState.CRASHED)
    ]
    async with bench.worker():
        for reason in failing:
            asked = [cause for cause in RetryCause if cause == reason]
            for retry_on in ([], asked) if asked else ([],):
                job_id = await bench.submit("hold", max_retries=1, retry_on=retry_on)
                job = await bench.launched(job_id)
                job.fail(reason, "It ended.")
                if RETRY_RULES[reason] is RetryRule.ALWAYS or retry_on:
                    again = await bench.launched(job_id, attempt=2)
                    again.succeed()
                    assert (await bench.ending(job_id))[1] is TerminationReason.COMPLETED
                else:
                    assert (await bench.ending(job_id))[1] is reason
                    assert names.launch_key(job_id, 2) not in bench.launcher.jobs


async def test_the_retry_table_has_every_reason() -> None:
    assert set(RETRY_RULES) == set(TerminationReason)
    assert {reason for reason, it in RETRY_RULES.items() if it is RetryRule.WHEN_ASKED} == set(
        RetryCause
    )


async def test_what_an_attempt_runs_on_is_recorded_once_at_its_launch(bench: Bench) -> None:
    async with bench.worker():
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
        (await bench.launched(job_id)).succeed()
        await bench.ending(job_id)
    sha256 = (await bench.run(job_id)).labels["oumi.provenance"]
    record = load(str(sha256), bench.settings.records_dir)
    assert record is not None
    assert "oumi" in record.packages


async def test_a_record_that_takes_long_keeps_up_neither_watch_nor_cancel(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    keep = LaunchPlan.keep_provenance

    def hash_much(plan: LaunchPlan) -> object:
        assert gate.wait(PATIENCE_SECONDS)
        return keep(plan)

    monkeypatch.setattr(LaunchPlan, "keep_provenance", hash_much)
    try:
        async with bench.worker():
            first = await bench.submit("hold")
            await bench.reaches(first, JobState.RUNNING)
            await bench.cancel(first)
            assert (await bench.ending(first))[0] is JobState.CANCELLED
            second = await bench.submit("hold")
            await bench.reaches(second, JobState.RUNNING)
            assert "oumi.provenance" not in (await bench.run(second)).labels
            gate.set()
            (await bench.launched(second)).succeed()
            await bench.ending(second)
    finally:
        gate.set()
    assert "oumi.provenance" in (await bench.run(second)).labels
