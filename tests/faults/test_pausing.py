"""A job paused on its page in the Prefect UI is frozen, whatever process of ours is killed."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flows.core import names
from flows.launcher.local.job_folder import JobFolder
from mcp_server.engine import Engine
from tests.support.job_driver import JobDriver, job_driver
from tests.support.prefect_page import press_cancel, press_pause, press_resume
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

PATIENCE_SECONDS = 240.0
"""A worker that was killed loads Oumi again before it does anything, on a busy machine, too."""

COUNTS = """\
trap 'echo asked > asked; exit 0' TERM
setsid bash -c 'while :; do echo >> child; sleep 0.01; done' &
while :; do echo >> count; sleep 0.01 || :; done
"""


@pytest.fixture
async def killable(engine: Engine, home: Path, tmp_path: Path) -> AsyncIterator[JobDriver]:
    """Jobs on an engine whose processes the test may kill."""
    folder = tmp_path / "client"
    folder.mkdir()
    connection = engine.connection()
    environ = {
        "PREFECT_API_URL": connection.api_url,
        "PREFECT_API_AUTH_STRING": connection.auth_string or "",
    }
    async with job_driver(connection, home, folder, environ) as driver:
        yield driver


class Counter:
    """A job whose processes write to files all the time."""

    def __init__(self, jobs: JobDriver, job_id: str) -> None:
        self.jobs = jobs
        self.id = job_id

    @classmethod
    async def begin(cls, jobs: JobDriver) -> "Counter":
        counter = cls(jobs, await jobs.submit(COUNTS))
        await jobs.reaching(counter.id, "running", timeout=PATIENCE_SECONDS)
        await counter.counts()
        return counter

    @property
    def files(self) -> list[Path]:
        return [self.jobs.folder / name for name in ("count", "child")]

    def sizes(self) -> list[int]:
        return [file.stat().st_size for file in self.files]

    async def counts(self) -> None:
        await eventually(
            lambda: all(file.exists() for file in self.files), timeout=PATIENCE_SECONDS
        )
        before = self.sizes()
        await eventually(
            lambda: all(now > was for now, was in zip(self.sizes(), before, strict=True)),
            timeout=PATIENCE_SECONDS,
        )

    async def stands_still(self) -> None:
        before, until = self.sizes(), time.monotonic() + 0.5
        await eventually(lambda: time.monotonic() > until)
        assert self.sizes() == before

    async def says(self, text: str) -> dict[str, object]:
        async def is_said() -> dict[str, object] | None:
            status = await self.jobs.status(self.id)
            return status if text in status["message"] else None

        status = await eventually(is_said, timeout=PATIENCE_SECONDS)
        assert status is not None
        return status

    async def is_frozen(self) -> None:
        status = await self.says("Its processes are frozen")
        assert status["state"] == "running"
        assert "Its processes are frozen" in str(status["summary"])
        await self.stands_still()


async def test_a_paused_job_is_frozen_goes_on_and_ends_once(jobs: JobDriver) -> None:
    counter = await Counter.begin(jobs)
    await press_pause(jobs.rest, counter.id)
    await counter.is_frozen()
    took = (await jobs.status(counter.id))["duration_seconds"]
    await counter.stands_still()
    assert (await jobs.status(counter.id))["duration_seconds"] == took
    await press_resume(jobs.rest, counter.id)
    await counter.counts()
    assert (await jobs.status(counter.id))["state"] == "running"
    await press_pause(jobs.rest, counter.id)
    await counter.is_frozen()
    answer = await jobs.call("cancel_job", job_id=counter.id)
    assert answer["state"] in ("cancelling", "cancelled")
    await jobs.reaching(counter.id, "cancelled")
    assert (jobs.folder / "asked").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_pause_outlives_worker_and_supervisor(killable: JobDriver, engine: Engine) -> None:
    # A worker that is killed before it has loaded Oumi three times rests before its next start.
    await asyncio.to_thread(engine.up, wait_for_worker=True)
    counter = await Counter.begin(killable)
    await press_pause(killable.rest, counter.id)
    await counter.is_frozen()
    kill_worker(engine)
    key = names.launch_key(counter.id, 1)
    supervisor = JobFolder(killable.local_dir / "local" / "jobs" / key).supervisor_pid()
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    await counter.stands_still()
    await asyncio.to_thread(engine.up, wait_for_worker=True)
    await counter.is_frozen()
    kill_worker(engine)
    await press_resume(killable.rest, counter.id)
    await asyncio.to_thread(engine.up, wait_for_worker=True)
    await counter.counts()
    assert (await killable.status(counter.id))["state"] == "running"
    kill_worker(engine)
    await press_pause(killable.rest, counter.id)
    await asyncio.to_thread(engine.up, wait_for_worker=True)
    await counter.is_frozen()
    kill_worker(engine)
    await press_cancel(killable.rest, counter.id)
    assert (await killable.status(counter.id))["state"] == "cancelling"
    await asyncio.to_thread(engine.up, wait_for_worker=True)
    await killable.reaching(counter.id, "cancelled", timeout=PATIENCE_SECONDS)
    assert (killable.folder / "asked").exists()


def kill_worker(engine: Engine) -> None:
    pid = engine.status().worker.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
