"""Submissions that come all at once, or whose server dies."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from flows.core import names
from tests.support.job_driver import JobDriver
from tests.support.jobs import job_config
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack

pytestmark = pytest.mark.engine

SERVERS = 4
JOBS = 40


@pytest.mark.slow
async def test_a_burst_through_several_servers_runs_each_job_once(
    stack: Stack, jobs: JobDriver
) -> None:
    ledger = jobs.folder / "ledger"

    def config(number: int) -> Path:
        return job_config(jobs.folder, f"job-{number}", f"echo {number} >> '{ledger}'")

    async with AsyncExitStack() as connected:
        servers = [await connected.enter_async_context(mcp_session(stack)) for _ in range(SERVERS)]
        ids = await asyncio.gather(
            *(servers[number % SERVERS].submit(config(number)) for number in range(JOBS))
        )
        for number, job_id in enumerate(ids):
            status = await jobs.reaching(job_id, "succeeded", timeout=120)
            assert status["name"] == f"job-{number}-{job_id[:8]}"
    assert Counter(ledger.read_text().split()) == Counter(map(str, range(JOBS)))


async def test_a_job_keeps_its_name_when_its_server_dies_before_naming_it(jobs: JobDriver) -> None:
    config = job_config(jobs.folder, "any", "true")
    deployment = (
        await jobs.rest.get(f"/deployments/name/{names.deployment(names.WORK_POOL)}")
    ).json()["id"]
    # What a server sends first; the name with the run's id follows in a call of its own.
    body = {
        "name": "my job",
        "labels": {"oumi.attempt": 1},
        "parameters": {"request": {"config_path": str(config), "client_cwd": str(jobs.folder)}},
    }
    answer = await jobs.rest.post(f"/deployments/{deployment}/create_flow_run", json=body)
    job_id = answer.json()["id"]
    jobs.adopt(job_id)
    status = await jobs.reaching(job_id, "succeeded")
    assert status["name"] == f"my job-{job_id[:8]}"
