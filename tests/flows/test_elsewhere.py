"""The same flow without the `oumi` worker around it: slower, and just as true."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate

from flows.core import names
from flows.core.states import JobState, TerminationReason
from tests.flows.bench import Bench, state_of
from tests.flows.family import family_on
from tests.support.stack import Stack
from tests.support.waiting import eventually, is_gone

pytestmark = pytest.mark.engine

PATIENCE_SECONDS = 200.0
"""Each run imports Oumi in a process of its own: 10 to 20 s, and more where they are many."""

CHILD = """\
sleep 600 &
echo $! > child
wait
"""
DIRECTLY = """\
import asyncio, sys
from flows.job.job_flow import run_job
from flows.core.models import JobRequest

async def main():
    for config in sys.argv[1:]:
        request = JobRequest(config_path=config, client_cwd=".")
        state = await run_job(request, return_state=True)
        print(state.type.value, state.name, state.message, sep="|", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def environ(cold_stack: Stack, tmp_path: Path) -> Mapping[str, str]:
    """Of a process that has nothing to do with our engine but the server."""
    return {
        **os.environ,
        "PREFECT_API_URL": cold_stack.connection.api_url,
        "PREFECT_API_AUTH_STRING": cold_stack.connection.auth_string or "",
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "OUMI_FLOWS_HOME": str(tmp_path / "home"),
        "OUMI_FLOWS_LOCAL_SLOTS": "2",
    }


@asynccontextmanager
async def process_worker(bench: Bench, environ: Mapping[str, str]) -> AsyncGenerator[None]:
    """Prefect's own worker on a pool of its own, to which the bench submits from now on."""
    bench.pool = f"process-{uuid4().hex[:8]}"
    await bench.client.create_work_pool(WorkPoolCreate(name=bench.pool, type="process"))
    own, bench.deployment_id = (
        bench.deployment_id,
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(names.FLOW_NAME),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint="flows.job.job_flow.run_job",
            pull_steps=[],
        ),
    )
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
    log = bench.folder / "worker.log"
    with log.open("wb") as output:
        worker = await asyncio.create_subprocess_exec(
            *command,
            "--pool",
            bench.pool,
            env=dict(environ),
            cwd=bench.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    except AssertionError as error:
        error.add_note(log.read_text()[-5000:])
        raise
    finally:
        worker.terminate()
        try:
            await asyncio.wait_for(worker.wait(), 30)
        except TimeoutError:
            os.killpg(worker.pid, signal.SIGKILL)
            await worker.wait()
    await bench.client.delete_deployment(bench.deployment_id)
    await bench.client.delete_work_pool(bench.pool)
    bench.deployment_id = own


@pytest.mark.slow
async def test_a_process_worker_runs_jobs_and_cancels_them(
    bench: Bench, environ: Mapping[str, str]
) -> None:
    async with process_worker(bench, environ):
        cancelled = await bench.submit(CHILD)
        finished = await bench.submit("echo done > result")
        child = bench.folder / "child"
        await eventually(
            lambda: child.exists() and child.read_text().endswith("\n"), timeout=PATIENCE_SECONDS
        )
        pid = int(child.read_text())
        await bench.reaches(cancelled, JobState.RUNNING)
        await bench.cancel(cancelled)
        assert (await bench.ending(cancelled))[:2] == (
            JobState.CANCELLED,
            TerminationReason.USER_CANCELLED,
        )
        assert is_gone(pid)
        assert await eventually(lambda: _ended(bench, finished), timeout=PATIENCE_SECONDS)
        assert (await bench.ending(finished))[1] is TerminationReason.COMPLETED
        assert (bench.folder / "result").read_text() == "done\n"


@pytest.mark.nightly  # a process for each of three runs, and Oumi in each
async def test_a_process_worker_ends_the_jobs_of_a_pipeline_that_is_cancelled(
    bench: Bench, cold_stack: Stack, environ: Mapping[str, str]
) -> None:
    async with process_worker(bench, environ), family_on(bench, cold_stack.connection) as family:
        parent = await family.submit(
            family.step("train", CHILD), family.step("after", "exit 0", needs=["train"])
        )
        child = bench.folder / "child"
        await eventually(
            lambda: child.exists() and child.read_text().endswith("\n"), timeout=PATIENCE_SECONDS
        )
        pid = int(child.read_text())
        train = (await family.children(parent))["train"].id
        await bench.reaches(train, JobState.RUNNING)
        await bench.cancel(parent)
        assert (await bench.ending(parent))[0] is JobState.CANCELLED
        assert await eventually(lambda: _ended(bench, train), timeout=PATIENCE_SECONDS)
        assert is_gone(pid)
        assert await family.states(parent) == {"train": "cancelled"}


async def _ended(bench: Bench, job_id: UUID) -> bool:
    return state_of(await bench.run(job_id)).is_terminal


@pytest.mark.slow
async def test_a_direct_call_runs_jobs_to_their_end(
    bench: Bench, environ: Mapping[str, str]
) -> None:
    for name, run in (("good", "echo done > result"), ("bad", "echo 'ValueError: x'; exit 3")):
        (bench.folder / f"{name}.yaml").write_text(
            f"name: {name}\nresources: {{cloud: local}}\nrun: {run!r}\n"
        )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DIRECTLY, "good.yaml", "bad.yaml"),
        env=dict(environ),
        cwd=bench.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    printed, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert printed.decode().splitlines() == [
        "COMPLETED|Completed|completed: The job finished.",
        "FAILED|Failed|nonzero_exit: The job exited with code 3. ValueError: x",
    ], errors.decode()
    assert (bench.folder / "result").read_text() == "done\n"
