"""Lists do not go by the wall clock: a clock that was set back hides no job."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mcp.client import Client

from mcp_server.server import Parts
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.service import JobService
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer


@pytest.fixture
def set_back(parts: Parts, tmp_path: Path) -> JobService:
    """Jobs as a process sees them whose clock was set back by a day."""
    return JobService(
        parts.gateway,
        snapshots_dir=tmp_path,
        records_dir=tmp_path,
        now=lambda: datetime.now(UTC) - timedelta(days=1),
    )


async def listed(jobs: JobService, status: str) -> list[str]:
    return [job.job_id for job in (await jobs.list(JobFilter(status=status), limit=100)).jobs]


async def test_jobs_whose_times_lie_ahead_are_listed(
    client: Client, config: Path, prefect: PrefectServer, set_back: JobService
) -> None:
    async def submit(*states: str) -> str:
        answer = await ok(
            client,
            "run_oumi_job",
            config_path=config.name,
            client_cwd=str(config.parent),
            dry_run=False,
            own_output=True,
        )
        prefect.set_states(answer["job_id"], *states)
        return answer["job_id"]

    waiting = await submit()
    running = await submit("PENDING", "RUNNING")
    retrying = await submit("PENDING", "RUNNING", "SCHEDULED/AwaitingRetry")
    ended = await submit("PENDING", "RUNNING", "COMPLETED")
    ours = {waiting, running, retrying, ended}

    async def ours_of(status: str) -> list[str]:
        # Other tests' jobs may have times further ahead.
        return [job_id for job_id in await listed(set_back, status) if job_id in ours]

    assert await ours_of("all") == [ended, retrying, running, waiting]
    assert await ours_of("running") == [retrying, running, waiting]
    assert await ours_of("completed") == [ended]
    assert await ours_of("launching") == []


async def test_pages_of_jobs_whose_times_lie_ahead_hold_each_once(
    client: Client, config: Path, set_back: JobService
) -> None:
    for _ in range(3):
        await ok(
            client,
            "run_oumi_job",
            config_path=config.name,
            client_cwd=str(config.parent),
            dry_run=False,
        )
    whole = await listed(set_back, "all")
    seen: list[str] = []
    cursor = None
    while len(seen) < 6:
        page = await set_back.list(limit=2, cursor=cursor)
        seen += [job.job_id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == whole[: len(seen)]


async def test_the_times_to_come_of_a_schedule_are_still_no_jobs(
    client: Client, config: Path, prefect: PrefectServer, set_back: JobService
) -> None:
    made = await ok(
        client,
        "schedule_job",
        config_path=config.name,
        client_cwd=str(config.parent),
        dry_run=False,
        interval_seconds=3600,
        schedule_name="every hour",
    )
    planned = prefect.create_run(made["schedule_id"], seconds_ago=-7200)
    assert planned not in await listed(set_back, "all")
    assert planned not in await listed(set_back, "running")
    assert planned in await listed(set_back, "scheduled")
    await ok(client, "update_schedule", schedule_id=made["schedule_id"], action="delete")
