"""Reading a job's log from Prefect, where its file is on another machine."""

import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from mcp.client import Client

from flows.core.errors import InvalidArgument
from flows.core.run_labels import RunLabels
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun, LogLine, RunState
from mcp_server.services.jobs.logs import LogReader
from mcp_server.services.jobs.redactors import Redactors
from mcp_server.services.jobs.results import JobLogs
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer

RUN_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Log:
    """A job's log in a Prefect server, which has no file of it."""

    def __init__(self, folder: Path) -> None:
        self._rows: list[LogLine] = []
        self._folder = folder
        self._reader = LogReader(cast("PrefectGateway", self), Redactors(folder))
        self.calls = 0
        self.ended = False

    def write(self, *messages: str, at_once: bool = False) -> None:
        for message in messages:
            step = 0 if at_once and self._rows else 1
            timestamp = NOW + timedelta(milliseconds=step)
            if self._rows:
                timestamp = self._rows[-1].timestamp + timedelta(milliseconds=step)
            self._rows.append(LogLine(timestamp=timestamp, message=message))

    async def read_logs(
        self,
        run_id: str,
        *,
        limit: int,
        offset: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
    ) -> list[LogLine]:
        assert run_id == RUN_ID
        assert limit <= MAX_PAGE
        self.calls += 1
        rows = [
            row
            for row in self._rows
            if (since is None or row.timestamp >= since)
            and (until is None or row.timestamp <= until)
        ]
        return (rows[::-1] if newest_first else rows)[offset : offset + limit]

    async def read(
        self, *, lines: int = 80, cursor: str | None = None, grep: str | None = None
    ) -> JobLogs:
        kind = "COMPLETED" if self.ended else "RUNNING"
        run = FlowRun(
            id=RUN_ID,
            name="train-tiny-7c459f95",
            created=NOW,
            expected_start_time=NOW,
            state=RunState(type=kind, name=kind.capitalize(), timestamp=NOW),
            labels=RunLabels(log_path="/no/such/machine/log.txt"),
        )
        page = await self._reader.read(run, lines=lines, cursor=cursor, grep=grep)
        assert page.lines_returned <= lines
        if lines <= 80:
            assert len(page.model_dump_json().encode()) <= 12_000
        return page

    async def read_on(self, page: JobLogs, *, lines: int, grep: str | None = None) -> list[str]:
        """Everything after a page, which nothing may hold up."""
        read: list[str] = []
        while page.lines_returned or "more follow" in page.summary:
            page = await self.read(lines=lines, cursor=page.next_cursor, grep=grep)
            read += page.logs.split("\n") if page.lines_returned else []
        return read


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def numbered(count: int, *, width: int = 0) -> list[str]:
    return [f"{n} {'x' * width}".strip() for n in range(count)]


@pytest.mark.parametrize("lines", [1, 3, 80, 2000])
@pytest.mark.parametrize("at_once", [False, True])
async def test_pages_too_big_for_an_answer_are_read_on_without_loss(
    log: Log, lines: int, *, at_once: bool
) -> None:
    log.write("start")
    page = await log.read()
    written = numbered(450, width=210)
    log.write(*written, at_once=at_once)
    assert await log.read_on(page, lines=lines) == written


async def test_a_page_cut_short_says_so_and_goes_on_where_it_ended(log: Log) -> None:
    log.write("start")
    first = await log.read()
    log.write(*numbered(80, width=210))
    page = await log.read(cursor=first.next_cursor)
    read = page.logs.split("\n")
    assert (read[0], len(read) < 80, page.at_end) == (numbered(1, width=210)[0], True, False)
    assert f"{len(read)} lines were looked at and more follow next_cursor" in page.summary


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_tail_of_a_long_log_is_its_end(log: Log, *, at_once: bool) -> None:
    log.write(*numbered(25_000))
    log.write("the end", at_once=at_once)
    page = await log.read(lines=3)
    assert page.logs == "24998\n24999\nthe end"
    assert log.calls == 1
    log.write("more", at_once=at_once)
    assert (await log.read(cursor=page.next_cursor)).logs == "more"


async def test_a_cursor_holds_among_any_number_of_lines_of_one_time(log: Log) -> None:
    written = numbered(500)
    log.write(*written, at_once=True)
    page = await log.read(lines=2)
    assert page.logs == "498\n499"
    assert await log.read_on(page, lines=80) == []
    log.write("more", at_once=True)
    assert await log.read_on(page, lines=80) == ["more"]


async def test_a_tail_too_big_for_an_answer_says_what_was_cut(log: Log) -> None:
    log.write(*numbered(80, width=210))
    page = await log.read()
    assert page.logs.endswith(numbered(80, width=210)[-1])
    assert "earlier lines were left out" in page.summary
    assert page.lines_returned < 80


@pytest.mark.parametrize("character", ["x", '"', "\x01", "é", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("from_start", [False, True])
async def test_a_line_too_long_for_an_answer_is_cut_and_that_is_said(
    log: Log, character: str, *, from_start: bool
) -> None:
    start = await log.read()
    log.write(character * 30_000, "next")
    if from_start:
        page = await log.read(cursor=start.next_cursor)
        assert page.logs == character * len(page.logs)
        assert f"{30_000 - len(page.logs):,} characters of a long line were cut" in page.summary
        assert (await log.read(cursor=page.next_cursor)).logs == "next"
        return
    page = await log.read()
    assert page.logs == "next"
    assert "earlier lines were left out" in page.summary


async def test_a_search_reads_on_without_loss_and_says_where_it_stopped(log: Log) -> None:
    log.write("start")
    page = await log.read()
    written = numbered(450, width=210)
    log.write(*(text for line in written for text in (line, "something else")))
    assert await log.read_on(page, lines=80, grep="x$") == written
    log.write(*numbered(10_500), "the needle")
    page = await log.read(grep="no such line")
    assert (page.logs, "only the last 10,000 lines were looked at" in page.summary) == ("", True)


async def test_a_search_that_finds_nothing_in_many_lines_can_be_gone_on_with(log: Log) -> None:
    page = await log.read()
    log.write(*numbered(10_500), "the needle")
    page = await log.read(cursor=page.next_cursor, grep="needle")
    assert page.logs == ""
    assert "10,000 lines were looked at and more follow next_cursor" in page.summary
    assert (await log.read(cursor=page.next_cursor, grep="needle")).logs == "the needle"


async def test_a_search_of_the_tail_finds_the_last_lines_first(log: Log) -> None:
    log.write("loss 1", "loss 2", *numbered(600), "loss 3")
    assert (await log.read(grep="loss", lines=2)).logs == "loss 2\nloss 3"
    with pytest.raises(InvalidArgument, match="not a regular expression"):
        await log.read(grep="(")


async def test_the_end_is_reported_once_the_job_has_ended_and_all_was_read(log: Log) -> None:
    log.write(*numbered(300))
    page = await log.read(lines=200)
    assert not page.at_end
    log.write(*numbered(3))
    log.ended = True
    assert not (await log.read(lines=2, cursor=page.next_cursor)).at_end
    assert (await log.read(lines=4, cursor=page.next_cursor)).at_end


async def test_a_cursor_from_before_the_start_reads_from_the_beginning(log: Log) -> None:
    log.write(*numbered(100))
    before = base64.urlsafe_b64encode(b"1:0").decode().rstrip("=")
    assert (await log.read(lines=2, cursor=before)).logs == "0\n1"


async def test_a_cursor_of_a_file_that_is_gone_gives_the_tail_and_says_so(log: Log) -> None:
    log.write(*numbered(100))
    within = base64.urlsafe_b64encode(b"1:17").decode().rstrip("=")
    page = await log.read(lines=2, cursor=within)
    assert page.logs == "98\n99"
    assert "the file of cursor is not on this machine" in page.summary
    for wrong in ("prefect:1", "prefect:2026-01-01T00:00:00/1", "prefect:0000000000/1"):
        with pytest.raises(InvalidArgument):
            await log.read(cursor=wrong)


async def test_a_real_server_is_read_on_without_loss(
    client: Client, prefect: PrefectServer, submit_job: Callable[[], Awaitable[str]]
) -> None:
    job_id = await submit_job()
    prefect.label(job_id, log_path="/no/such/machine/log")
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    prefect.log(job_id, "start", at=NOW)
    page = await ok(client, "get_job_logs", job_id=job_id)
    written = numbered(250, width=210)
    prefect.log(job_id, *written[:100], at=NOW)
    prefect.log(job_id, *written[100:])
    read: list[str] = []
    while not page["at_end"] or not read:
        page = await ok(client, "get_job_logs", job_id=job_id, cursor=page["next_cursor"])
        assert page["lines_returned"]
        read += page["logs"].split("\n")
    assert read == written
    tail = await ok(client, "get_job_logs", job_id=job_id, lines=2)
    assert tail["logs"].split("\n") == written[-2:]
    after = await ok(client, "get_job_logs", job_id=job_id, cursor=tail["next_cursor"])
    assert after["lines_returned"] == 0


@pytest.fixture
def submit_job(client: Client, config: Path) -> Callable[[], Awaitable[str]]:
    async def submit() -> str:
        given = {"config_path": str(config), "client_cwd": str(config.parent), "dry_run": False}
        return (await ok(client, "run_oumi_job", **given))["job_id"]

    return submit
