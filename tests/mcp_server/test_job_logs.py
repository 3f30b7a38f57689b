"""Reading the log files of a job's attempts."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from flows.core.errors import InvalidArgument
from flows.core.names import launch_key, launch_log
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.services.jobs.logs import LogReader
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.results import JobLogs

RUN_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Job:
    """A job with a log file of each attempt."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = LogReader(cast("PrefectGateway", None), Redactors(folder))
        self.attempt = 1
        self.ended = False
        self.started = True
        self.launching: int | None = None
        """The attempt that is being launched; None: its launcher keeps no log of that."""

    def write_launch(self, text: str) -> None:
        path = launch_log(self._folder, "c1", launch_key(RUN_ID, self.attempt))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def write(self, text: str) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    async def read(
        self, *, lines: int = 80, cursor: str | None = None, grep: str | None = None
    ) -> JobLogs:
        labels = RunLabels(attempt=self.attempt, log_path=str(self._path()))
        if self.launching is not None:
            launched = self.attempt - (self.launching == self.attempt)
            path = launch_log(self._folder, "c1", launch_key(RUN_ID, self.attempt))
            labels = labels.with_changes(
                RunLabels(
                    launch_log=str(path),
                    submitted_attempt=self.attempt,
                    launched_attempt=launched or None,
                )
            )
            last = str(self._path(launched)) if launched else None
            labels = labels.model_copy(update={"log_path": last})
        state = "FAILED" if self.ended else "RUNNING"
        run = FlowRun(
            id=RUN_ID,
            name="train-tiny-7c459f95",
            created=NOW,
            expected_start_time=NOW,
            state=RunState(type=state, name=state.capitalize(), timestamp=NOW),
            labels=labels if self.started else RunLabels(),
        )
        return await self._reader.read(run, lines=lines, cursor=cursor, grep=grep)

    def _path(self, attempt: int = 0) -> Path:
        return self._folder / launch_key(RUN_ID, attempt or self.attempt) / "output.log"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


async def test_without_a_cursor_the_tail_is_read(job: Job) -> None:
    job.write("".join(f"line {n}\n" for n in range(100)))
    page = await job.read(lines=2)
    assert (page.logs, page.lines_returned, page.at_end) == ("line 98\nline 99", 2, False)
    assert page.log_path is not None
    assert page.log_path.endswith("-1/output.log")


async def test_a_log_is_followed_without_loss_into_the_next_attempts(job: Job) -> None:
    job.write("a\nb\n")
    page = await job.read()
    read = [page.logs]
    job.write("c\n")
    job.attempt = 2
    job.write("d\n")
    job.attempt = 3
    job.write("e\nf\n")
    for lines in (1, 2, 80):
        page = await job.read(cursor=page.next_cursor, lines=lines)
        read.append(page.logs)
    assert read == ["a\nb", "c", "d\ne", "f"]
    assert (await job.read(cursor=page.next_cursor)).logs == ""
    job.write("g")
    job.ended = True
    page = await job.read(cursor=page.next_cursor)
    assert (page.logs, page.at_end) == ("g", True)


async def test_a_cursor_from_before_the_start_reads_from_the_beginning(job: Job) -> None:
    job.started = False
    page = await job.read()
    assert (page.logs, page.at_end, page.log_path) == ("", False, None)
    assert page.next_cursor is not None
    job.started = True
    job.write("a\n")
    assert (await job.read(cursor=page.next_cursor)).logs == "a"


async def test_lines_are_searched(job: Job) -> None:
    job.write("loss 1\n[0] done\nloss 2\n")
    assert (await job.read(grep="loss")).logs == "loss 1\nloss 2"
    assert (await job.read(grep=r"\[0\]", lines=1)).logs == "[0] done"
    with pytest.raises(InvalidArgument, match="not a regular expression"):
        await job.read(grep="(")


@pytest.mark.parametrize("line", ["x" * 60, '"\\\t' * 20, "é" * 40])
async def test_an_answer_stays_small_and_says_what_was_cut(job: Job, line: str) -> None:
    job.write(f"{line}\n" * 5000)
    page = await job.read()
    assert len(page.model_dump_json().encode()) <= 12_000
    page = await job.read(lines=2000)
    assert len(page.model_dump_json().encode()) <= 90_000
    assert "the whole log is at" in page.summary


async def test_pages_after_a_cursor_are_small_and_leave_nothing_out(job: Job) -> None:
    written = [f'{n} "{"x" * 300}"' for n in range(300)]
    job.write("start\n")
    page = await job.read()
    job.write("".join(f"{line}\n" for line in written))
    read: list[str] = []
    while len(read) < len(written):
        page = await job.read(cursor=page.next_cursor, lines=100)
        assert len(json.dumps(page.logs)) <= 13_000
        assert page.lines_returned > 0
        read += page.logs.split("\n")
    assert read == written


@pytest.mark.parametrize("cursor", ["x", "", "OTk6MA"])
async def test_a_cursor_of_another_job_is_refused(job: Job, cursor: str) -> None:
    job.write("a\n")
    if not cursor:
        assert (await job.read(cursor=cursor)).logs == "a"
        return
    with pytest.raises(InvalidArgument):
        await job.read(cursor=cursor)


async def test_a_launch_is_followed_into_the_log_of_its_job(job: Job) -> None:
    job.launching = 1
    job.write_launch("provisioning\n")
    page = await job.read()
    assert (page.logs, page.at_end) == ("provisioning", False)
    assert page.log_path is not None
    assert page.log_path.endswith("-1.launch.log")
    assert "the log of its launch" in page.summary
    job.write_launch("setting up\n")
    page = await job.read(cursor=page.next_cursor)
    assert page.logs == "setting up"
    job.write_launch("done\n")
    job.launching = 0
    job.write("step 1\n")
    assert (await job.read()).logs == "step 1"
    page = await job.read(cursor=page.next_cursor)
    assert page.logs == "done"
    page = await job.read(cursor=page.next_cursor)
    assert page.logs == "step 1"


async def test_a_launch_that_failed_shows_its_log_to_the_end(job: Job) -> None:
    job.launching, job.ended = 1, True
    job.write_launch("quota exceeded\n")
    page = await job.read()
    assert (page.logs, page.at_end) == ("quota exceeded", True)


async def test_a_cursor_in_an_earlier_attempt_is_followed_into_the_next_launch(job: Job) -> None:
    job.launching = 0
    job.write("a\n")
    page = await job.read()
    job.attempt = job.launching = 2
    job.write_launch("again\n")
    assert (await job.read()).logs == "again"
    page = await job.read(cursor=page.next_cursor)
    assert page.logs == "again"
    job.write_launch("up\n")
    assert (await job.read(cursor=page.next_cursor)).logs == "up"
