"""What every launcher does, the real one and the one that stands in for it in tests."""

import asyncio

import pytest

from flows.errors import CloudUnavailable, JobNotFound
from flows.ports import JobHandle, LauncherState
from flows.states import TerminationReason
from tests.worker.subjects import CLOUD, CLUSTER, Subject, new_key


async def test_a_job_runs_and_succeeds(subject: Subject) -> None:
    handle = await subject.launch(subject.holds)
    running = await subject.reaching(handle, LauncherState.RUNNING)
    assert running.reason is None
    subject.release(handle)
    ended = await subject.reaching(handle, LauncherState.SUCCEEDED)
    assert (ended.reason, ended.message) == (TerminationReason.COMPLETED, "The job finished.")


async def test_a_job_waits_for_a_slot(subject: Subject) -> None:
    first, _ = [await subject.launch(subject.holds) for _ in range(2)]
    third = await subject.launch(subject.holds)
    assert (await subject.seen(third)).state is LauncherState.PENDING
    subject.release(first)
    await subject.reaching(third, LauncherState.RUNNING)


async def test_a_job_that_fails_says_why(subject: Subject) -> None:
    handle = await subject.launch(subject.exits(3))
    ended = await subject.reaching(handle, LauncherState.FAILED)
    assert ended.reason is TerminationReason.NONZERO_EXIT
    assert "exited with code 3" in ended.message


async def test_a_setup_that_fails_fails_the_job(subject: Subject) -> None:
    handle = await subject.launch(subject.holds, setup="exit 4")
    ended = await subject.reaching(handle, LauncherState.FAILED)
    assert ended.reason is TerminationReason.SETUP_FAILED
    assert ended.message == "The setup script exited with code 4."


async def test_launching_a_key_twice_launches_one_job(subject: Subject) -> None:
    key = new_key()
    first = await subject.launch(subject.holds, key=key)
    assert await subject.launch(subject.holds, key=key) == first
    await subject.reaching(first, LauncherState.RUNNING)
    subject.release(first)
    await subject.reaching(first, LauncherState.SUCCEEDED)
    # Not even after it has ended.
    assert await subject.launch(subject.holds, key=key) == first
    assert (await subject.seen(first)).state is LauncherState.SUCCEEDED


async def test_launching_a_key_twice_at_once_launches_one_job(subject: Subject) -> None:
    key = new_key()
    launches = [subject.launch(subject.holds, key=key) for _ in range(4)]
    handles = await asyncio.gather(*launches)
    assert handles == handles[:1] * 4
    listed = await subject.launcher.observe(CLOUD, CLUSTER)
    assert [job for job in listed if job == handles[0].launcher_job_id] == [
        handles[0].launcher_job_id
    ]


async def test_jobs_launched_at_once_are_all_there(subject: Subject) -> None:
    handles = await asyncio.gather(*(subject.launch(subject.exits(0)) for _ in range(6)))
    listed = await subject.launcher.observe(CLOUD, CLUSTER)
    assert {handle.launcher_job_id for handle in handles} <= set(listed)
    assert len({handle.launcher_job_id for handle in handles}) == 6
    for handle in handles:
        await subject.reaching(handle, LauncherState.SUCCEEDED)


async def test_a_job_is_found_by_its_key_once_it_is_launched(subject: Subject) -> None:
    key = new_key()
    assert await subject.find(key) is None
    handle = await subject.launch(subject.holds, key=key)
    assert await subject.find(key) == handle
    await subject.reaching(handle, LauncherState.RUNNING)
    subject.release(handle)
    await subject.reaching(handle, LauncherState.SUCCEEDED)
    assert await subject.find(key) == handle


async def test_a_running_job_is_cancelled(subject: Subject) -> None:
    handle = await subject.launch(subject.holds)
    await subject.reaching(handle, LauncherState.RUNNING)
    await subject.launcher.cancel(handle, force=False)
    ended = await subject.reaching(handle, LauncherState.CANCELLED)
    assert ended.reason is TerminationReason.USER_CANCELLED


async def test_a_pending_job_is_cancelled_and_never_runs(subject: Subject) -> None:
    running = [await subject.launch(subject.holds) for _ in range(2)]
    pending = await subject.launch(subject.exits(0))
    await subject.launcher.cancel(pending, force=False)
    await subject.reaching(pending, LauncherState.CANCELLED)
    for handle in running:
        subject.release(handle)
        await subject.reaching(handle, LauncherState.SUCCEEDED)
    assert (await subject.seen(pending)).state is LauncherState.CANCELLED


async def test_a_job_that_has_ended_stays_as_it_ended_when_cancelled(subject: Subject) -> None:
    handle = await subject.launch(subject.exits(3))
    ended = await subject.reaching(handle, LauncherState.FAILED)
    await subject.launcher.cancel(handle, force=False)
    again = await subject.seen(handle)
    assert (again.state, again.reason, again.message) == (
        ended.state,
        ended.reason,
        ended.message,
    )


async def test_cancelling_twice_is_cancelling_once(subject: Subject) -> None:
    handle = await subject.launch(subject.holds)
    await subject.reaching(handle, LauncherState.RUNNING)
    await asyncio.gather(*(subject.launcher.cancel(handle, force=False) for _ in range(3)))
    await subject.reaching(handle, LauncherState.CANCELLED)


async def test_a_job_that_ignores_a_cancel_is_live_until_the_cancel_is_forced(
    subject: Subject,
) -> None:
    handle = await subject.launch(subject.ignores)
    await subject.reaching(handle, LauncherState.RUNNING)
    await subject.launcher.cancel(handle, force=False)
    assert not (await subject.seen(handle)).state.is_terminal
    await subject.launcher.cancel(handle, force=True)
    await subject.reaching(handle, LauncherState.CANCELLED)


async def test_an_unknown_job_is_none(subject: Subject) -> None:
    await subject.launch(subject.exits(0))
    unknown = JobHandle(cloud=CLOUD, cluster_name=CLUSTER, launcher_job_id="unknown")
    assert await subject.launcher.observe_job(unknown) is None
    assert await subject.find("unknown") is None
    assert "unknown" not in await subject.launcher.observe(CLOUD, CLUSTER)
    with pytest.raises(JobNotFound):
        await subject.launcher.cancel(unknown, force=False)


async def test_a_cluster_nobody_launched_on_has_no_jobs(subject: Subject) -> None:
    launcher = subject.launcher
    await subject.launch(subject.exits(0))
    assert await launcher.observe(CLOUD, "elsewhere") == {}
    assert await launcher.find(cloud=CLOUD, cluster_name="elsewhere", key=new_key()) is None
    nowhere = JobHandle(cloud=CLOUD, cluster_name="elsewhere", launcher_job_id="unknown")
    assert await launcher.observe_job(nowhere) is None


async def test_a_cloud_that_does_not_exist_is_refused_by_name(subject: Subject) -> None:
    key = new_key()
    config = subject.config(subject.holds, key=key, cloud="nimbus")
    with pytest.raises(CloudUnavailable, match="nimbus"):
        await subject.launcher.launch(config, cloud="nimbus", cluster_name="x", key=key)
    with pytest.raises(CloudUnavailable, match="nimbus"):
        await subject.launcher.observe("nimbus", "x")


async def test_a_launch_that_was_cut_off_is_taken_up_by_the_next(subject: Subject) -> None:
    key = new_key()
    cut_off = asyncio.create_task(subject.launch(subject.holds, key=key))
    await asyncio.sleep(0)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    handle = await subject.launch(subject.holds, key=key)
    await subject.reaching(handle, LauncherState.RUNNING)
    assert list(await subject.launcher.observe(CLOUD, CLUSTER)).count(handle.launcher_job_id) == 1
