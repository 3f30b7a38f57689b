"""Jobs on clouds, over a launcher in memory: their clusters, preemption, late launches."""

import asyncio
from uuid import UUID

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    LogFilter,
    LogFilterFlowRunId,
)

from flows.core import names
from flows.core.errors import LaunchCancelled, StillLaunching
from flows.core.models import JobHandle, Usage
from flows.core.states import JobState, TerminationReason
from flows.core.training.recorder import record_folder
from flows.core.training.usage import read_usage
from flows.launcher.port import LauncherState, UsageSample
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


async def submit(bench: Bench, run: str = "hold", *, extra: str = "", **request: object) -> UUID:
    config = bench.folder / "cloud.yaml"
    config.write_text(f"name: cloud\nrun: {run}\n{extra}")
    return await bench.submit_config(config, **({"cloud": "gcp"} | request))


async def test_a_job_that_names_no_cluster_has_one_of_its_own(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
        cluster = names.own_cluster(str(job_id))
        # Known before the launch, so that what comes of it can be found whatever happens.
        assert (await bench.run(job_id)).labels["oumi.cluster_name"] == cluster
        bench.launcher.gate.set()
        job = await bench.launched(job_id)
        job.succeed()
        _, reason, text = await bench.ending(job_id)
    assert job.cluster == cluster
    assert reason is TerminationReason.COMPLETED
    assert text == (
        f"The job finished. Its own cluster {cluster} on gcp is still up and may be billed: "
        "down_cluster ends it."
    )


async def test_a_launch_by_skypilot_names_its_log_before_it_ends(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench, cluster_name="ours")
        await bench.launcher.launching.wait()
        log = names.launch_log(bench.settings.home, "ours", names.launch_key(job_id, 1))
        assert (await bench.run(job_id)).labels["oumi.launch_log"] == str(log)
        bench.launcher.gate.set()
        (await bench.launched(job_id)).succeed()
        await bench.ending(job_id)


async def test_nothing_is_said_of_the_cost_of_a_cluster_that_others_may_use(bench: Bench) -> None:
    async with bench.worker():
        job_id = await submit(bench, cluster_name="ours")
        (await bench.launched(job_id)).succeed()
        assert (await bench.ending(job_id))[2] == "The job finished."


async def test_a_job_cancelled_while_its_cluster_comes_up_says_what_is_left(bench: Bench) -> None:
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
        await bench.cancel(job_id)
        bench.launcher.gate.set()
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    assert f"cluster {names.own_cluster(str(job_id))} on gcp is still up" in text
    (job,) = bench.launcher.jobs.values()
    assert job.state is LauncherState.CANCELLED


async def test_a_preempted_job_fails_as_preempted(bench: Bench) -> None:
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        job.fail(TerminationReason.PREEMPTED, "The machine was taken away.")
        assert await bench.ending(job_id) == (
            JobState.FAILED,
            TerminationReason.PREEMPTED,
            "The machine was taken away.",
        )
        assert (await bench.run(job_id)).state_name == "Preempted"


async def test_a_job_put_back_into_the_queue_of_its_cluster_is_not_called_running(
    bench: Bench,
) -> None:
    async with bench.worker():
        job_id = await submit(bench, timeout_seconds=3600)
        job = await bench.launched(job_id)
        await bench.reaches(job_id, JobState.RUNNING)
        first = await eventually(lambda: running_since(bench, job_id), timeout=PATIENCE_SECONDS)
        bench.launcher.slots, job.state = 0, LauncherState.PENDING
        await bench.reaches(job_id, JobState.LAUNCHING)
        bench.launcher.slots = 1
        await bench.reaches(job_id, JobState.RUNNING)

        async def runs_anew() -> bool:
            return await running_since(bench, job_id) not in (None, "", first)

        # Its time limit starts again, and so does that of its cluster.
        await eventually(runs_anew, timeout=PATIENCE_SECONDS)
        job.succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    assert (await bench.states(job_id))[-4:] == ["Running", "Launching", "Running", "Completed"]


async def running_since(bench: Bench, job_id: UUID) -> object:
    return (await bench.run(job_id)).labels.get("oumi.limit_stopwatch")


async def test_a_preempted_job_is_launched_again_on_its_cluster(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(retry=0.1)
    async with bench.worker():
        job_id = await submit(bench, max_retries=1)
        first = await bench.launched(job_id)
        first.fail(TerminationReason.PREEMPTED, "The machine was taken away.")
        second = await bench.launched(job_id, attempt=2)
        second.succeed()
        assert (await bench.ending(job_id))[0] is JobState.SUCCEEDED
    assert first.cluster == second.cluster


async def test_a_launch_that_takes_too_long_leaves_no_job_behind(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"launch_timeout_seconds": 0.2})
    bench.launcher.gate.clear()
    async with bench.worker(settings=settings):
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
        late = "It is cancelled as soon as it comes up"
        await eventually(lambda: _said(bench, job_id, late), timeout=PATIENCE_SECONDS)
        assert (await bench.run(job_id)).state_name == "Launching"
        bench.launcher.gate.set()
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.LAUNCH_FAILED)
    assert text.startswith("gcp did not launch the job within 0.2 s. It came up later and was canc")
    (job,) = bench.launcher.jobs.values()
    assert job.state is LauncherState.CANCELLED


def tells_of_launches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher knows of a launch that is under way, as SkyPilot's server does."""
    find = bench.launcher.find

    async def find_or_launching(**where: str) -> JobHandle | None:
        if bench.launcher.launching.is_set() and not bench.launcher.gate.is_set():
            raise StillLaunching("it is still launching", "It is asked again")
        return await find(**where)

    monkeypatch.setattr(bench.launcher, "find", find_or_launching)


async def test_a_launch_is_taken_up_by_the_next_worker_and_held_to_its_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells_of_launches(bench, monkeypatch)
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
    settings = bench.settings.model_copy(update={"launch_timeout_seconds": 0.2})
    async with bench.worker(settings=settings):
        late = "It is cancelled as soon as it comes up"
        await eventually(lambda: _said(bench, job_id, late), timeout=PATIENCE_SECONDS)
        assert (await bench.run(job_id)).state_name == "Launching"
        bench.launcher.gate.set()
        state, reason, _ = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.LAUNCH_FAILED)
    (job,) = bench.launcher.jobs.values()
    assert job.state is LauncherState.CANCELLED


async def test_a_launch_that_is_under_way_is_waited_for_before_it_is_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells_of_launches(bench, monkeypatch)
    bench.launcher.gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.launcher.launching.wait()
    await bench.cancel(job_id)
    async with bench.worker() as worker:
        await eventually(lambda: job_id in worker.active, timeout=PATIENCE_SECONDS)
        bench.launcher.gate.set()
        state, reason, _ = await bench.ending(job_id)
    assert (state, reason) == (JobState.CANCELLED, TerminationReason.USER_CANCELLED)
    (job,) = bench.launcher.jobs.values()
    assert job.state is LauncherState.CANCELLED


async def test_a_launch_that_somebody_else_ended_is_not_repeated(bench: Bench) -> None:
    bench.launcher.refusal = LaunchCancelled("its cluster was taken down", "Submit it again")
    async with bench.worker():
        job_id = await submit(bench, max_retries=3)
        assert await bench.ending(job_id) == (
            JobState.CANCELLED,
            TerminationReason.CANCELLED_EXTERNALLY,
            "its cluster was taken down. Submit it again.",
        )
    assert len(bench.launcher.launches) == 1


async def test_a_job_of_a_slurm_connection_goes_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUMI_SLURM_CONNECTIONS", "me@there")
    async with bench.worker():
        job_id = await submit(bench, cloud="slurm")
        job = await bench.launched(job_id)
        job.succeed()
        assert (await bench.ending(job_id))[2] == "The job finished."
    assert (job.cluster, job.config["user"]) == ("me@there", "me")


async def test_a_job_that_does_not_say_where_to_run_fails_and_can_be_cancelled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUMI_SLURM_CONNECTIONS", raising=False)
    async with bench.worker():
        job_id = await submit(bench, cloud="slurm")
        state, reason, text = await bench.ending(job_id)
    assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)
    assert "Give cluster_name as user@host" in text


async def test_prefect_never_sees_a_secret_of_the_job(bench: Bench) -> None:
    log = bench.folder / "log.txt"
    log.write_text("HF_TOKEN=s3cr3t-value\nDB is s3cr3t-value\nValueError: s3cr3t-value is bad\n")
    async with bench.worker():
        job_id = await submit(bench, extra="envs: {MY_PASSWORD: s3cr3t-value}\n")
        job = await bench.launched(job_id)
        job.log_path = log
        assert job.config["envs"]["MY_PASSWORD"] == "s3cr3t-value"
        job.fail(TerminationReason.NONZERO_EXIT, "exit 1 of s3cr3t-value")
        _, _, text = await bench.ending(job_id)
    assert text.startswith("exit 1 of ***")
    assert "ValueError: *** is bad" in text
    run = await bench.run(job_id)
    logs = await eventually(lambda: _said(bench, job_id, "DB is ***"), timeout=PATIENCE_SECONDS)
    history = await bench.client.read_flow_run_states(job_id)
    assert "s3cr3t-value" not in f"{run} {logs} {history}"


async def _said(bench: Bench, job_id: UUID, text: str) -> list[str]:
    """The run's log, once it has `text`."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[job_id]))
    lines = [entry.message for entry in await bench.client.read_logs(wanted)]
    return lines if any(text in line for line in lines) else []


async def test_the_log_of_a_cloud_job_is_kept_here_while_it_is_written(bench: Bench) -> None:
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        job.output = b"Traceback\n"
        log = bench.settings.jobs_dir / names.launch_key(job_id, 1) / "log.txt"
        await eventually(log.exists, timeout=PATIENCE_SECONDS)
        assert log.read_bytes() == b"Traceback\n"
    job.output += b"{'loss': '0.5', 'step': 7}\n"
    async with bench.worker():
        await eventually(
            lambda: log.read_bytes() == job.output, timeout=PATIENCE_SECONDS, interval=0.05
        )
        job.output += b"ValueError: at last\n"
        job.fail(TerminationReason.NONZERO_EXIT, "The job exited with code 1.")
        text = (await bench.ending(job_id))[2]
    assert log.read_bytes() == job.output
    assert "The job exited with code 1. ValueError: at last" in text
    run = await bench.run(job_id)
    assert run.labels["oumi.log_path"] == str(log)
    facts = await progress_facts(bench, job_id)
    assert (facts["step"], facts["loss"]) == ("7", "0.5")


async def progress_facts(bench: Bench, job_id: UUID) -> dict[str, str]:
    """What the progress artifact of a job says besides its percentage."""
    (artifact,) = await bench.client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[job_id]),
            type=ArtifactFilterType(any_=["progress"]),
        )
    )
    return artifact.metadata_ or {}


async def test_a_log_that_stalls_keeps_up_neither_watch_nor_cancel(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.wait(log_rest=0.1)
    bench.launcher.log_gate.clear()
    async with bench.worker():
        job_id = await submit(bench)
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[0] is JobState.CANCELLED


async def test_what_is_asked_of_the_cluster_reaches_its_cloud(bench: Bench) -> None:
    async with bench.worker():
        for minutes in (None, 15):
            job_id = await submit(bench, autostop_minutes=minutes)
            (await bench.launched(job_id)).succeed()
            await bench.ending(job_id)
    assert bench.launcher.autostops == [None, 15]


async def test_a_job_of_an_id_that_another_has_now_is_not_taken_for_ours(bench: Bench) -> None:
    """A cluster that is created again counts its jobs from 1 again."""
    bench.launcher.counts_ids = True
    async with bench.worker():
        first = await submit(bench, cluster_name="ours")
        (await bench.launched(first)).fail(TerminationReason.PREEMPTED, "It was taken away.")
        assert (await bench.ending(first))[1] is TerminationReason.PREEMPTED
        bench.launcher.remake("ours")
        other = await submit(bench, cluster_name="ours")
        theirs = await bench.launched(other)
        await bench.reaches(other, JobState.RUNNING)
        await bench.retry(first)
        again = await bench.launched(first, attempt=2)
        assert (theirs.id, again.id) == ("1", "2")
        await bench.reaches(first, JobState.RUNNING)
        await bench.cancel(first)
        assert (await bench.ending(first))[0] is JobState.CANCELLED
        assert not theirs.state.is_terminal
        theirs.succeed()
        assert (await bench.ending(other))[0] is JobState.SUCCEEDED


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_job_whose_id_was_given_to_another_is_gone_and_the_other_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, is_cancelled: bool
) -> None:
    bench.wait(vanished=0.3)
    bench.launcher.counts_ids = True
    async with bench.worker():
        job_id = await submit(bench, cluster_name="ours")
        await bench.reaches(job_id, JobState.RUNNING)
    bench.launcher.remake("ours")
    await bench.launcher.launch("run: hold", cloud="gcp", cluster_name="ours", key="another")
    if is_cancelled:
        await bench.cancel(job_id)
    async with bench.worker():
        reason = (await bench.ending(job_id))[1]
    assert reason is (TerminationReason.USER_CANCELLED if is_cancelled else TerminationReason.LOST)
    another = bench.launcher.jobs["another"]
    assert (another.id, another.cancels, another.state) == ("1", 0, LauncherState.RUNNING)


async def test_what_the_accounting_of_a_cluster_says_is_kept_and_shown(bench: Bench) -> None:
    bench.wait(usage=0.01)
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        job.output = b"began\n"
        job.usage = UsageSample(seconds=7, usage=Usage(ram_bytes=3.0, cpu_seconds=2.0))
        await bench.reaches(job_id, JobState.RUNNING)
        record = record_folder(bench.settings.jobs_dir / names.launch_key(job_id, 1) / "log.txt")
        await eventually(lambda: asyncio.sleep(0, read_usage(record)), timeout=PATIENCE_SECONDS)
        job.usage = UsageSample(seconds=9, usage=Usage(ram_peak_bytes=5.0, cpu_seconds=4.0))
        job.succeed()
        await bench.ending(job_id)
    assert read_usage(record) == Usage(ram_bytes=3.0, ram_peak_bytes=5.0, cpu_seconds=4.0)
    assert '"ram_peak_bytes":5.0' in (await progress_facts(bench, job_id))["usage"]


async def test_a_cluster_without_accounting_is_asked_once_and_at_the_end(bench: Bench) -> None:
    bench.wait(usage=0.01)
    async with bench.worker():
        job_id = await submit(bench)
        job = await bench.launched(job_id)
        job.output = b"began\n"
        await eventually(
            lambda: asyncio.sleep(0, bench.launcher.calls["read_usage"]), timeout=PATIENCE_SECONDS
        )
        job.succeed()
        await bench.ending(job_id)
    assert bench.launcher.calls["read_usage"] == 2
