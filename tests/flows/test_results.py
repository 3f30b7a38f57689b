"""Results of jobs through the services, the API, the flows and a launcher."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from flows.core import names
from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.jobs.service import JobService
from mcp_server.services.results.collecting import CollectService
from mcp_server.services.results.reading import ResultsService
from tests.flows.bench import PATIENCE_SECONDS, Bench, Running
from tests.results.trees import write
from tests.support.stack import Stack
from tests.support.trees import digests
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

ENTRY_POINTS = {
    names.JOB_RESULTS_FLOW: "flows.answers.job_results.job_results",
    names.COLLECT_FLOW: "flows.collecting.collect_flow.collect_results",
}
SPARSE_BYTES = 200 * 2**30
"""Takes no room on the disk, and its checksum minutes."""


class Results(NamedTuple):
    reading: ResultsService
    collecting: CollectService
    jobs: JobService


@pytest.fixture
async def results(bench: Bench, cold_stack: Stack) -> AsyncGenerator[Results]:
    deployments = [
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(flow),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint=entry_point,
        )
        for flow, entry_point in ENTRY_POINTS.items()
    ]
    gateway = PrefectGateway(
        Running(cold_stack.connection), timeout_seconds=30, work_pool=bench.pool
    )
    yield Results(
        ResultsService(gateway, snapshots_dir=bench.folder, home=bench.folder),
        CollectService(gateway, snapshots_dir=bench.folder),
        JobService(gateway, snapshots_dir=bench.folder, records_dir=bench.settings.records_dir),
    )
    await gateway.aclose()
    for deployment in deployments:
        await bench.client.delete_deployment(deployment)


async def ended_job(bench: Bench, output: Path) -> UUID:
    """A job of this machine that has succeeded and left results."""
    job_id = await bench.submit("hold")
    (await bench.launched(job_id)).succeed()
    await bench.ending(job_id)
    labels = RunLabels(output_dir=str(output))
    await bench.client.update_flow_run_labels(job_id, labels.as_labels())
    return job_id


async def test_a_cloud_whose_files_cannot_be_read_says_so(bench: Bench, results: Results) -> None:
    config = bench.folder / "cloud.yaml"
    config.write_text("name: cloud\nrun: hold\n")
    async with bench.worker():
        job_id = await bench.submit_config(config, cloud="gcp", cluster_name="ours")
        (await bench.launched(job_id)).succeed()
        await bench.ending(job_id)
        found = await results.reading.read(str(job_id))
    assert (found.where, found.files) == ("gcp/ours", [])
    assert "cannot be read from here" in found.summary
    assert "Copy them there" in found.notes[0]


async def test_a_copy_is_a_run_whose_job_is_marked_as_collected(
    bench: Bench, results: Results, tmp_path: Path
) -> None:
    async with bench.worker():
        job_id = await ended_job(bench, tmp_path / "out")
        for name in ("a.txt", "b.txt"):
            write(tmp_path / "out" / name)
        part = await results.collecting.collect(str(job_id), str(tmp_path / "part"), ["a.txt"])
        assert (await bench.ending(UUID(part.job_id)))[1] is TerminationReason.COMPLETED
        labels = RunLabels.read((await bench.run(job_id)).labels)
        assert labels.collected_attempt is None
        assert labels.collected_part == f"a.txt into {tmp_path / 'part'}"
        whole = await results.collecting.collect(str(job_id), str(tmp_path / "whole"))
        state, reason, text = await bench.ending(UUID(whole.job_id))
    assert (state, reason) == (JobState.SUCCEEDED, TerminationReason.COMPLETED)
    assert "every checksum is equal" in text
    labels = RunLabels.read((await bench.run(job_id)).labels)
    assert (labels.collected_attempt, labels.collected_into) == (1, str(tmp_path / "whole"))
    # A script's other files are there, too.
    assert digests(tmp_path / "whole" / "out") == digests(tmp_path / "out")


async def test_a_copy_goes_on_after_its_worker_died_and_ends_cancelled_on_request(
    bench: Bench, results: Results, tmp_path: Path
) -> None:
    async with bench.worker() as worker:
        job_id = await ended_job(bench, tmp_path / "out")
        sparse = write(tmp_path / "out" / "sparse.bin")
        with sparse.open("r+b") as file:
            file.truncate(SPARSE_BYTES)
        copy = await results.collecting.collect(str(job_id), str(tmp_path / "copy"))
        copy_id = UUID(copy.job_id)
        await bench.reaches(copy_id, JobState.RUNNING)
        await eventually(lambda: copy_id in worker.active, timeout=PATIENCE_SECONDS)
    async with bench.worker() as worker:
        await eventually(lambda: copy_id in worker.active, timeout=PATIENCE_SECONDS)
        assert (await bench.run(copy_id)).run_count >= 1
        await bench.cancel(copy_id)
        assert await bench.ending(copy_id) == (
            JobState.CANCELLED,
            TerminationReason.USER_CANCELLED,
            "Cancelled on request. The same call goes on where this copy stopped.",
        )


async def test_a_copy_that_failed_goes_on_when_it_is_retried(
    bench: Bench, results: Results, tmp_path: Path
) -> None:
    async with bench.worker():
        job_id = await ended_job(bench, tmp_path / "out")
    for name in ("a.txt", "b.txt"):
        write(tmp_path / "out" / name)
    copy = await results.collecting.collect(str(job_id), str(tmp_path / "copy"))
    staged = tmp_path / "copy" / ".oumi-flows" / str(job_id) / "out" / "a.txt"
    theirs = write(tmp_path / "copy" / "out" / "b.txt", "another")
    async with bench.worker():
        state, reason, text = await bench.ending(UUID(copy.job_id))
        assert (state, reason) == (JobState.FAILED, TerminationReason.INVALID_CONFIG)
        assert text.startswith(f"CONFLICT: {theirs} exists and differs")
        theirs.unlink()
        write(staged, (tmp_path / "out" / "a.txt").read_text()[:2])
        again = await results.jobs.retry(copy.job_id)
        assert (again.job_id, again.attempt) == (copy.job_id, 2)
        await bench.reaches(UUID(copy.job_id), JobState.SUCCEEDED)
    assert digests(tmp_path / "copy" / "out") == digests(tmp_path / "out")
    status = await results.jobs.status(copy.job_id)
    assert (status.attempt, status.progress.percent) == (2, 100.0)
