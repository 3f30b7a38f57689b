import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from flows.core.errors import CloudUnavailable
from flows.core.models import JobHandle
from flows.job.intervals import Intervals
from flows.job.log_copy import LogCopy
from tests.support.fake_launcher import FakeJob, FakeLauncher
from tests.support.waiting import eventually

HANDLE = JobHandle(cloud="gcp", cluster_name="c", launcher_job_id="1")
CHUNK = 7
INTERVALS = Intervals(log_settle=0.0, log_longest=0.02)


class Log:
    """A job's log elsewhere, and our copies of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.launcher = FakeLauncher()
        self.job = self.launcher.jobs["1"] = FakeJob("1", "c", {})

    def write(self, text: bytes) -> None:
        self.job.output += text

    @property
    def copied(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    async def is_copied(self) -> None:
        await eventually(lambda: self.copied == self.job.output, interval=0.005)

    def copy(self, intervals: Intervals) -> LogCopy:
        return LogCopy(
            self.launcher,
            HANDLE,
            self.path,
            interval_seconds=0.01,
            intervals=intervals,
            chunk_bytes=CHUNK,
        )

    @asynccontextmanager
    async def followed(self, intervals: Intervals = INTERVALS) -> AsyncGenerator[LogCopy]:
        copy = self.copy(intervals)
        copy.start()
        try:
            yield copy
        finally:
            copy.stop()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "jobs" / "key" / "log.txt")


async def test_a_log_is_copied_while_it_grows(log: Log) -> None:
    async with log.followed():
        for n in range(5):
            log.write(f"line {n} of this log\r".encode())
            await log.is_copied()


async def test_what_is_written_at_the_very_end_is_copied(log: Log) -> None:
    async with log.followed() as copy:
        log.write(b"first")
        await log.is_copied()
        log.write(b" and last")
        assert await copy.finish() is True
    assert log.copied == b"first and last"


async def test_another_worker_goes_on_where_the_last_one_was_killed(log: Log) -> None:
    log.write(b"0123456789" * 5)
    async with log.followed():
        await log.is_copied()
    log.path.write_bytes(log.copied[:13])  # killed in the middle of a write
    async with log.followed():
        log.write(b"more")
        await log.is_copied()


async def test_a_chunk_that_arrives_twice_is_written_once(log: Log) -> None:
    log.write(b"once")
    log.launcher.log_gate.clear()
    async with log.followed() as first, log.followed():
        await eventually(lambda: log.launcher.calls["read_log"] == 2, interval=0.005)
        log.launcher.log_gate.set()
        await log.is_copied()
        await first.finish()
    assert log.copied == b"once"


async def test_a_log_that_cannot_be_reached_is_tried_again(log: Log) -> None:
    log.write(b"text")
    log.launcher.unreachable = "on holiday"
    async with log.followed():
        await eventually(lambda: log.launcher.calls["read_log"] > 2, interval=0.005)
        log.launcher.unreachable = None
        await log.is_copied()


async def test_a_log_that_stalls_at_the_end_is_given_up(log: Log) -> None:
    async with log.followed(replace(INTERVALS, log_rest=0.05)) as copy:
        log.write(b"seen")
        await log.is_copied()
        log.launcher.log_gate.clear()
        log.write(b" not seen")
        assert await copy.finish() is False
    assert log.copied == b"seen"


async def test_a_cloud_that_lets_nobody_read_logs_is_asked_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def read_log(handle: JobHandle, *, offset: int, limit: int) -> bytes:
        asked.append(offset)
        raise CloudUnavailable("no logs here", "Look elsewhere")

    monkeypatch.setattr(log.launcher, "read_log", read_log)
    async with log.followed() as copy:
        await eventually(lambda: not _followers(), interval=0.005)
        assert asked == [0]
        assert await copy.finish() is False
    assert not log.path.exists()


def _followers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("log ")]
