"""No text that a job prints or leaves decides what becomes of it."""

import json
from uuid import UUID

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from flows.core.states import JobState, TerminationReason
from tests.flows.bench import PATIENCE_SECONDS, Bench
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

ODD_LINES = [
    "\r  0%|  | 1/10 [00:00<:, 1it/s]",
    "\r  0%|  | " + "9" * 5000 + "/10 [00:00<00:01, 1it/s]",
    '::oumi-flows-progress:: {"step": ' + "9" * 400 + ', "max_steps": 1}',
    "{[1], [2]}",
    '{"a":' * 1800,
    '{"a":' * 1800 + "1" + "}" * 1800,
    "{'a': 0x" + "f" * 6000 + "}",
    '{"step": 1e999, "loss": NaN}',
    '{"' + "k" * 9000 + '": 1}',
]
REPORT = '\r::oumi-flows-progress:: {"step": 3, "max_steps": 4}\r'


async def printing(bench: Bench, line: str) -> UUID:
    """A running job that has printed a line."""
    job_id = await bench.submit("hold")
    job = await bench.launched(job_id)
    job.log_path = bench.folder / f"{job.key}.log"
    job.log_path.write_bytes(f"{line}\n".encode())
    await bench.reaches(job_id, JobState.RUNNING)
    return job_id


async def is_read(bench: Bench, job_id: UUID) -> None:
    """Wait until what a job printed was read: its progress after it shows."""
    job = await bench.launched(job_id)
    assert job.log_path is not None
    with job.log_path.open("a") as file:
        file.write(REPORT)

    async def shown() -> bool:
        found = await bench.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[job_id]))
        )
        return any((one.metadata_ or {}).get("step") == "3" for one in found)

    await eventually(shown, timeout=PATIENCE_SECONDS)


async def traces(bench: Bench, job_id: UUID) -> tuple[int, int]:
    """How many task runs and log lines of a run the server keeps."""
    tasks = await bench.client.read_task_runs(
        task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[job_id]))
    )
    lines = await bench.client.read_logs(
        log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[job_id]))
    )
    return len(tasks), len(lines)


async def test_jobs_end_and_are_cancelled_whatever_they_print(bench: Bench) -> None:
    everything = "\n".join(ODD_LINES)
    texts = [*ODD_LINES, everything, everything]
    settings = bench.settings.model_copy(update={"local_slots": len(texts)})
    async with bench.worker(settings=settings):
        jobs = [await printing(bench, text) for text in texts]
        for job_id in jobs:
            await is_read(bench, job_id)
        for job_id in jobs[1::2]:
            await bench.cancel(job_id)
        for job_id in jobs[::2]:
            (await bench.launched(job_id)).succeed()
        endings = [(await bench.ending(job_id))[1] for job_id in jobs]
        ends = [TerminationReason.COMPLETED, TerminationReason.USER_CANCELLED]
        assert endings == [ends[number % 2] for number in range(len(texts))]
        for job_id in jobs:
            tasks, lines = await traces(bench, job_id)
            assert tasks <= 2  # it was executed once
            assert lines < 40
    run = await bench.run(jobs[-1])
    assert json.loads(str(run.labels["oumi.metrics"])) == {
        "a": "inf",
        "loss": "nan",
        "step": "inf",
    }


async def test_a_training_that_diverged_has_succeeded_and_says_so(bench: Bench) -> None:
    async with bench.worker():
        job_id = await printing(bench, "{'loss': '0.5', 'step': 1}")
        job = await bench.launched(job_id)
        assert job.log_path is not None
        with job.log_path.open("a") as file:
            file.write("{'loss': '0', 'grad_norm': 'nan', 'step': 2}\n")
        job.succeed()
        assert await bench.ending(job_id) == (
            JobState.SUCCEEDED,
            TerminationReason.COMPLETED,
            "The job finished, but its training diverged: its last loss is nan.",
        )


async def test_a_report_that_the_loss_is_none_outweighs_an_older_number(bench: Bench) -> None:
    async with bench.worker():
        job_id = await printing(bench, '{"loss": 0.5}')
        job = await bench.launched(job_id)
        assert job.log_path is not None
        with job.log_path.open("a") as file:
            file.write('\r::oumi-flows-progress:: {"step": 4, "max_steps": 4, "loss": "inf"}\r')
        job.succeed()
        assert (await bench.ending(job_id))[2].endswith("its last loss is inf.")
    kept = (await bench.run(job_id)).labels["oumi.metrics"]
    assert json.loads(str(kept)) == {"loss": "inf"}
