"""A cancel is honoured in every state of a job, from any client, and leaves no process."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TextIO

import psutil
import pytest

from flows.core.names import DEPLOYMENT_NAME, FLOW_NAME
from flows.launcher.local.job_folder import JobFolder
from flows.launcher.local.slot_queue import queue_folders
from tests.support.job_driver import JobDriver, job_processes
from tests.support.jobs import job_config
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

STAYS = "sleep 600 &\nwait"
# Deaf to SIGTERM throughout; two daemons, one of them orphaned, in sessions of their own.
STUBBORN = """\
trap "" TERM
setsid bash -c 'trap "" TERM; (setsid sleep 600 &) ; while :; do sleep 600; done' &
while :; do sleep 600; done
"""


async def scheduled(jobs: JobDriver) -> str:
    """A run for tomorrow, as "Custom run" in the Prefect UI makes it."""
    config = job_config(jobs.folder, "tomorrow", STAYS)
    path = f"/deployments/name/{FLOW_NAME}/{DEPLOYMENT_NAME}"
    deployment = (await jobs.rest.get(path)).json()["id"]
    due = datetime.now(UTC) + timedelta(days=1)
    body = {
        "parameters": {"request": {"config_path": str(config), "client_cwd": str(jobs.folder)}},
        "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}},
    }
    answer = await jobs.rest.post(f"/deployments/{deployment}/create_flow_run", json=body)
    job_id = answer.json()["id"]
    jobs.adopt(job_id)
    await jobs.reaching(job_id, "scheduled")
    return job_id


async def queued(jobs: JobDriver) -> str:
    for name in ("first", "second"):
        await jobs.submit(STAYS, name=name)
    job_id = await jobs.submit(STAYS, name="third")
    await jobs.reaching(job_id, "queued")
    return job_id


async def launching(jobs: JobDriver) -> str:
    """A job that waits on its cluster, all of whose slots are taken."""
    _, slots = queue_folders(jobs.local_dir)
    slots.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(2):
        file = jobs.leases.enter_context((slots / str(slot)).open("a"))
        await eventually(partial(is_locked, file))
    job_id = await jobs.submit(STAYS)
    await jobs.reaching(job_id, "launching")
    return job_id


def is_locked(file: TextIO) -> bool:
    """Lock a file, unless another process has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def running(jobs: JobDriver) -> str:
    job_id = await jobs.submit(STAYS)
    await jobs.reaching(job_id, "running")
    return job_id


async def retrying(jobs: JobDriver) -> str:
    """A job that was lost with its supervisor and waits for a retry."""
    job_id = await jobs.submit(STAYS, max_retries=1)
    await jobs.reaching(job_id, "running")
    log_path = await eventually(lambda: log_path_of(jobs, job_id))
    supervisor = JobFolder(Path(log_path).parent).supervisor_pid()
    assert supervisor
    for pid in (supervisor, *(process.pid for process in job_processes(job_id))):
        os.kill(pid, signal.SIGKILL)
    await jobs.reaching(job_id, "retrying")
    return job_id


async def log_path_of(jobs: JobDriver, job_id: str) -> str:
    """Where the job's log is; empty until that is known."""
    return (await jobs.status(job_id))["log_path"] or ""


async def by_tool(jobs: JobDriver, job_id: str) -> None:
    assert (await jobs.call("cancel_job", job_id=job_id))["state"] in ("cancelling", "cancelled")


async def by_ui(jobs: JobDriver, job_id: str) -> None:
    # The request behind the button (prefect 3.8.8): it skips most of the server's rules.
    await jobs.propose(job_id, "CANCELLING", "Cancelling", force=True)


async def by_cli(jobs: JobDriver, job_id: str) -> None:
    await jobs.prefect("flow-run", "cancel", job_id)


@pytest.mark.parametrize("cancel", [by_tool, by_ui, by_cli])
@pytest.mark.parametrize("reach", [scheduled, queued, launching, running, retrying])
async def test_a_job_is_cancelled(
    jobs: JobDriver,
    reach: Callable[[JobDriver], Awaitable[str]],
    cancel: Callable[[JobDriver, str], Awaitable[None]],
) -> None:
    job_id = await reach(jobs)
    await cancel(jobs, job_id)
    status = await jobs.reaching(job_id, "cancelled")
    assert status["termination_reason"] == "user_cancelled"
    assert job_processes(job_id) == []


async def test_jobs_cancelled_the_moment_they_are_submitted_leave_nothing(jobs: JobDriver) -> None:
    ledger = jobs.folder / "ledger"
    script = f"echo $OUMI_FLOWS_JOB_KEY >> '{ledger}'\n{STAYS}"

    async def submit_and_cancel(number: int) -> str:
        job_id = await jobs.submit(script, name=f"job-{number}")
        await asyncio.sleep(0.15 * number)  # spread over the whole way to running
        await by_tool(jobs, job_id)
        return job_id

    ids = await asyncio.gather(*map(submit_and_cancel, range(10)))
    for job_id in ids:
        status = await jobs.reaching(job_id, "cancelled")
        assert status["termination_reason"] == "user_cancelled"
        assert job_processes(job_id) == []
    # One that was left in peace shows that the ledger is written.
    last = await jobs.submit(script, name="last")
    await eventually(lambda: ledger.exists() and last.replace("-", "") in ledger.read_text())
    await by_tool(jobs, last)
    await jobs.reaching(last, "cancelled")
    started = ledger.read_text().split()
    assert len(started) == len(set(started))


async def test_a_job_deaf_to_sigterm_is_cancelled_by_force_with_its_daemons(
    jobs: JobDriver,
) -> None:
    job_id = await jobs.submit(STUBBORN)
    processes = await daemons_of(jobs, job_id)
    asked = await jobs.call("cancel_job", job_id=job_id)
    assert asked["state"] == "cancelling"
    assert all(process.is_running() for process in processes)
    await jobs.call("cancel_job", job_id=job_id, force=True)
    status = await jobs.reaching(job_id, "cancelled", timeout=5)
    assert status["termination_reason"] == "user_cancelled"
    assert job_processes(job_id) == []
    assert not any(process.is_running() for process in processes)


async def test_two_cancels_at_once_agree(jobs: JobDriver) -> None:
    job_id = await jobs.submit(STUBBORN)
    await daemons_of(jobs, job_id)
    pressed = asyncio.create_task(by_ui(jobs, job_id))
    answers = await asyncio.gather(
        *(jobs.call("cancel_job", job_id=job_id, force=force) for force in (True, True, False))
    )
    await pressed
    assert len(answers) == 3
    assert {answer["state"] for answer in answers} <= {"cancelling", "cancelled"}
    status = await jobs.reaching(job_id, "cancelled")
    assert status["termination_reason"] == "user_cancelled"
    assert job_processes(job_id) == []


async def test_a_job_that_has_ended_is_not_cancelled(jobs: JobDriver) -> None:
    job_id = await jobs.submit("exit 3")
    before = await jobs.reaching(job_id, "failed")
    assert (await jobs.error("cancel_job", job_id=job_id)).startswith("JOB_ALREADY_DONE: ")
    after = await jobs.status(job_id)
    assert {**after, "observed_at": None} == {**before, "observed_at": None}


async def daemons_of(jobs: JobDriver, job_id: str) -> list[psutil.Process]:
    """The stubborn job's processes, once all of them are deaf."""

    def all_there() -> list[psutil.Process]:
        processes = job_processes(job_id)
        sleeping = [p for p in processes if p.name() == "sleep"]
        return processes if len(sleeping) == 3 else []

    await jobs.reaching(job_id, "running")
    return await eventually(all_there)
