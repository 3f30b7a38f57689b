"""Ended jobs that are removed, and those that must stay."""

import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.exceptions import ObjectNotFound

from flows.answers.pruning import prune_old_files
from flows.core import names
from flows.core.errors import InvalidArgument
from flows.core.old_files import delete_files, find_old_files
from flows.core.private_envs import PrivateEnvs
from flows.core.settings import Settings
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.pruning import PruneService
from mcp_server.services.worker_calls import WorkerCalls
from tests.flows.bench import Bench, Running
from tests.support.stack import Stack

DAY = 86_400.0
NOW = 1_900_000_000.0
RUN = "0123456789abcdef0123456789abcdef"


def left(path: Path, *, days_ago: float, text: str = "x" * 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for changed in (path, path.parent):
        os.utime(changed, (NOW - days_ago * DAY, NOW - days_ago * DAY))
    return path


def local_job(settings: Settings, name: str, *, days_ago: float, ended: bool = True) -> Path:
    folder = settings.local_dir / "local" / "jobs" / name
    left(folder / "log.txt", days_ago=days_ago)
    if ended:
        left(folder / "exit.json", days_ago=days_ago)
    return folder


def test_files_of_jobs_that_ended_long_ago_are_old(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    old = [
        local_job(settings, f"oumi-{RUN}-1", days_ago=91),
        left(settings.jobs_dir / f"oumi-{RUN}-2" / "log.txt", days_ago=91).parent,
        left(tmp_path / "sky" / "mine" / f"oumi-{RUN}-3.launch.log", days_ago=91),
        left(settings.private_envs_dir / "a1", days_ago=91),
    ]
    live, live_elsewhere = "1" * 32, "2" * 32
    stays = [
        local_job(settings, f"oumi-{RUN}-4", days_ago=89),
        local_job(settings, f"oumi-{RUN}-5", days_ago=91, ended=False),
        local_job(settings, f"oumi-{live}-1", days_ago=91),
        left(settings.jobs_dir / f"oumi-{live_elsewhere}-2" / "log.txt", days_ago=91).parent,
        left(settings.private_envs_dir / "b2", days_ago=91),
        left(settings.private_envs_dir / "key", days_ago=91),
        left(settings.snapshots_dir / "c3", days_ago=91),
        left(tmp_path / "out" / "checkpoint-5" / "model.safetensors", days_ago=91),
    ]

    found = find_old_files(
        settings, ended_before=NOW - 90 * DAY, live={live, live_elsewhere}, used_envs={"b2"}
    )

    assert {files.path for files in found} == set(old)
    assert found[0].size >= 20
    delete_files(found)
    assert not [path for path in old if path.exists()]
    assert all(path.exists() for path in stays)


def test_a_link_to_a_folder_is_removed_and_what_it_names_stays(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    elsewhere = left(tmp_path / "models" / "model.safetensors", days_ago=100).parent
    link = settings.jobs_dir / f"oumi-{RUN}-1"
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    os.utime(link, (0, 0), follow_symlinks=False)

    delete_files(find_old_files(settings, ended_before=NOW, live=()))

    assert not link.is_symlink()
    assert (elsewhere / "model.safetensors").exists()


def test_a_secret_that_was_used_again_is_not_old(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    envs = PrivateEnvs(settings.private_envs_dir)
    hidden = envs.hide({"MY_TOKEN": "hunter2"})
    for use in (lambda: envs.hide({"MY_TOKEN": "hunter2"}), lambda: envs.reveal(hidden)):
        for path in settings.private_envs_dir.iterdir():
            os.utime(path, (0, 0))
        assert find_old_files(settings, ended_before=NOW / 2, live=())
        use()
        assert not find_old_files(settings, ended_before=NOW / 2, live=())


@pytest.fixture
async def pruning(bench: Bench, cold_stack: Stack) -> AsyncGenerator[PruneService]:
    deployment = await bench.client.create_deployment(
        flow_id=await bench.client.create_flow_from_name(names.PRUNE_FLOW),
        name=bench.pool,
        work_pool_name=bench.pool,
        entrypoint="flows.answers.pruning.prune",
    )
    gateway = PrefectGateway(
        Running(cold_stack.connection), timeout_seconds=30, work_pool=bench.pool
    )
    yield PruneService(WorkerCalls(gateway), keep_days=90)
    await gateway.aclose()
    await bench.client.delete_deployment(deployment)


async def exists(bench: Bench, job_id: UUID) -> bool:
    try:
        await bench.run(job_id)
    except ObjectNotFound:
        return False
    return True


@pytest.mark.engine
async def test_ended_jobs_are_removed_and_live_ones_stay(
    bench: Bench, pruning: PruneService
) -> None:
    async with bench.worker():
        ended = await bench.submit("hold")
        (await bench.launched(ended)).succeed()
        await bench.ending(ended)
        live = await bench.submit("hold")
        await bench.reaches(live, JobState.RUNNING)
        log = bench.settings.jobs_dir / names.launch_key(ended, 1) / "log.txt"
        kept_log = bench.settings.jobs_dir / names.launch_key(live, 1) / "log.txt"

        nothing = await pruning.prune("1h", dry_run=False)
        assert await exists(bench, ended)
        for path in (log, kept_log):
            left(path, days_ago=20_000)
        preview = await pruning.prune("0s", dry_run=True)
        assert await exists(bench, ended)
        assert log.exists()
        done = await pruning.prune("0s", dry_run=False)

        assert (nothing.runs, nothing.files, nothing.done) == (0, 0, True)
        assert preview.runs >= 1
        assert (preview.files, preview.done) == (1, False)
        assert preview.summary.startswith(f"Would remove {preview.runs} jobs that ended before ")
        assert (done.files, done.done) == (1, True)
        assert not await exists(bench, ended)
        assert await exists(bench, live)
        assert not log.exists()
        assert kept_log.exists()
        (await bench.launched(live)).succeed()
        await bench.ending(live)


@pytest.mark.engine
async def test_a_worker_removes_old_files_by_itself(bench: Bench) -> None:
    log = left(bench.settings.jobs_dir / f"oumi-{RUN}-1" / "log.txt", days_ago=20_000)
    recent = bench.settings.jobs_dir / f"oumi-{RUN}-2" / "log.txt"
    recent.parent.mkdir()
    recent.write_text("recent")

    await prune_old_files(bench.client, bench.settings.model_copy(update={"keep_days": 0.0}))
    assert log.exists()
    await prune_old_files(bench.client, bench.settings)

    assert not log.exists()
    assert recent.exists()


async def test_a_time_that_lies_ahead_or_is_missing_is_refused(tmp_path: Path) -> None:
    gateway = PrefectGateway(_no_engine, timeout_seconds=1)  # type: ignore[arg-type]
    service = PruneService(WorkerCalls(gateway), keep_days=0)
    ahead = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for older_than, what in (("", "keep_days is 0"), (ahead, "lies ahead"), ("soon", "no time")):
        with pytest.raises(InvalidArgument, match=what):
            await service.prune(older_than, dry_run=True)


_no_engine = object()
