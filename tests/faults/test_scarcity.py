"""Too little disk, too few cores."""

import asyncio
import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.job_driver import JobDriver, job_processes
from tests.support.small_disk import fill, mounted_small_disk
from tests.support.stack import Stack

pytestmark = pytest.mark.engine


async def test_jobs_on_a_full_disk_end_as_they_end_and_new_ones_say_why_they_cannot_start(
    stack: Stack, jobs: JobDriver
) -> None:
    disk = Path(stack.env["OUMI_FLOWS_HOME"]) / "local" / "small"
    with mounted_small_disk(disk, size="512k"):
        await see_a_full_disk(jobs, disk)
        await jobs.end_all()


async def see_a_full_disk(jobs: JobDriver, disk: Path) -> None:
    go = jobs.folder / "go"
    waits = f"until [ -e '{go}' ]; do sleep 0.1; done"
    writes = await jobs.submit(f"{waits}\necho one line more", name="writes", cluster_name="small")
    quiet = await jobs.submit(f"{waits}\nexit 4", name="quiet", cluster_name="small")
    stays = await jobs.submit("sleep 600", name="stays", cluster_name="small")
    for job_id in (writes, quiet):
        await jobs.reaching(job_id, "running")
    await jobs.reaching(stays, "queued")
    fill(disk)

    refused = await jobs.submit("true", name="refused", cluster_name="small")
    go.touch()
    status = await jobs.reaching(writes, "failed")
    assert status["termination_reason"] == "nonzero_exit"
    status = await jobs.reaching(quiet, "failed")
    assert "code 4" in status["message"]
    for job_id in (stays, refused):
        status = await jobs.reaching(job_id, "failed")
        assert status["termination_reason"] == "launch_failed"
        assert "No space left on device" in status["message"]

    (disk / "filler").unlink()
    await jobs.call("retry_job", job_id=refused)
    status = await jobs.reaching(refused, "succeeded", timeout=30)
    assert status["attempt"] == 2


async def test_a_job_that_fills_the_disk_can_be_cancelled(stack: Stack, jobs: JobDriver) -> None:
    disk = Path(stack.env["OUMI_FLOWS_HOME"]) / "local" / "tiny"
    with mounted_small_disk(disk, size="256k"):
        job_id = await jobs.submit(
            "head -c 1000000 /dev/zero || sleep 600", name="fills", cluster_name="tiny"
        )
        await jobs.reaching(job_id, "running")
        await jobs.call("cancel_job", job_id=job_id)
        status = await jobs.reaching(job_id, "cancelled")
        assert status["termination_reason"] == "user_cancelled"
        assert job_processes(job_id) == []


@contextmanager
def one_core(pids: list[int]) -> Generator[None]:
    """Keep the processes, and what they start, on one core."""
    cores = os.sched_getaffinity(0)
    try:
        set_cores(pids, {min(cores)})
        yield
    finally:
        set_cores(pids, cores)


def set_cores(pids: list[int], cores: set[int]) -> None:
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, cores)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
async def test_one_core_is_enough(stack: Stack, jobs: JobDriver) -> None:
    status = json.loads(await asyncio.to_thread(stack.cli, "status", "--json"))
    with one_core([status["server"]["pid"], status["worker"]["pid"], os.getpid()]):
        cores = await jobs.submit("nproc", name="cores")
        fails = await jobs.submit("exit 3", name="fails")
        stays = await jobs.submit("sleep 600", name="stays")
        await jobs.reaching(cores, "succeeded")
        assert (await jobs.call("get_job_logs", job_id=cores))["logs"] == "1"
        await jobs.reaching(fails, "failed")
        await jobs.reaching(stays, "running")
        await jobs.call("cancel_job", job_id=stays)
        await jobs.reaching(stays, "cancelled")
