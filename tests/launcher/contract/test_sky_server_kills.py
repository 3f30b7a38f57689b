"""SkyPilot's API server is killed while it launches, and forgets what goes on all the same."""

import asyncio
from contextlib import suppress

import pytest

from flows.core.errors import ClusterUnreachable
from flows.core.models import JobHandle
from flows.launcher.port import LauncherState
from flows.launcher.sky.server import SkyServer
from flows.launcher.sky.values import SkyClusterState
from tests.lab.sky_lab import SkyLab
from tests.launcher.contract.subjects import Subject, new_key
from tests.support.waiting import eventually

_LOOKS = 20
"""They take two seconds each, at least."""

pytestmark = [pytest.mark.sky, pytest.mark.timeout(900)]


async def test_an_api_server_killed_alone_while_it_launches_leaves_one_job(
    sky_subject: Subject, sky_lab: SkyLab
) -> None:
    subject, server, key = sky_subject, SkyServer(), new_key()
    subject.cluster += "k"  # that of other tests is up already
    launch = asyncio.create_task(subject.launch(subject.holds, key=key))

    def comes_up() -> bool:
        cluster = server.cluster(subject.cluster)
        return cluster is not None and cluster.state is SkyClusterState.INIT

    await eventually(lambda: asyncio.to_thread(comes_up), timeout=subject.patience)
    await asyncio.to_thread(sky_lab.kill_server_alone)
    await asyncio.to_thread(sky_lab.start_server)
    with suppress(ClusterUnreachable):
        await launch

    async def launched() -> JobHandle | None:
        with suppress(ClusterUnreachable):
            return await subject.find(key) or await subject.launch(subject.holds, key=key)
        return None

    handle = await eventually(launched, timeout=2 * subject.patience, interval=2)

    async def live() -> list[str]:
        await subject.observe()
        jobs = await asyncio.to_thread(server.queue, subject.cluster) or []
        return [job.job_id for job in jobs if job.name == key and not job.state.is_terminal]

    async def it_is_the_only_one() -> bool:
        return await live() == [handle.launcher_job_id]

    # The forgotten launch brings its job before ours, later, or never.
    for _ in range(_LOOKS):
        await eventually(it_is_the_only_one, timeout=subject.patience)
    print([job.status for job in await asyncio.to_thread(server.queue, subject.cluster) or []])
    await subject.reaching(handle, LauncherState.RUNNING)
    assert await subject.find(key) == handle
    subject.release(handle)
    await subject.reaching(handle, LauncherState.SUCCEEDED)
    assert await live() == []
