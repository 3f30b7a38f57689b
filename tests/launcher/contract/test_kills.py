"""A worker that is killed while it launches, at every step there is, leaves exactly one job."""

import asyncio
from collections.abc import Generator

import pytest

from flows.launcher.port import LauncherState
from tests.launcher.contract.launch_process import LaunchProcesses, launch_processes
from tests.launcher.contract.subjects import Subject, new_key
from tests.support.waiting import eventually

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def processes() -> Generator[LaunchProcesses]:
    with launch_processes() as started:
        yield started


@pytest.mark.timeout(1800)
async def test_a_launcher_killed_at_any_moment_leaves_one_job(
    subject: Subject, processes: LaunchProcesses
) -> None:
    if subject.name == "memory":
        pytest.skip("what is in memory dies with its process")
    whole = await asyncio.to_thread(processes.seconds, subject)
    found: list[bool] = []
    for moment in range(subject.moments):
        key = new_key()
        launch = await asyncio.to_thread(processes.start, subject, key, subject.holds)
        if moment == subject.moments - 1:
            await asyncio.to_thread(launch.join)  # after the last step
        else:
            await asyncio.sleep(whole * moment / (subject.moments - 2))
        launch.kill()
        await asyncio.to_thread(launch.join)
        # What the next worker does.
        handle = await subject.find_in_the_end(key)
        found.append(handle is not None)
        handle = handle or await subject.launch(subject.holds, key=key)
        await eventually(lambda: subject.launched(key) == 1)  # noqa: B023
        assert await subject.find(key) == handle
        subject.release(handle)
        await subject.reaching(handle, LauncherState.SUCCEEDED)
        assert subject.launched(key) == 1
    # Both sides of the submission were met, or the moments were chosen badly.
    assert found[0] is False
    assert found[-1] is True
