"""What a launcher does on every back end: the real ones and those that stand in for them."""

import asyncio

import pytest

from flows.core.errors import CloudUnavailable, ClusterUnreachable, JobNotFound
from flows.core.models import JobHandle
from flows.core.states import TerminationReason
from flows.launcher.port import LauncherState
from tests.launcher.contract.subjects import Subject, new_key
from tests.support.waiting import eventually


async def test_a_job_runs_and_succeeds(subject: Subject) -> None:
    handle = await subject.launch(subject.holds)
    running = await subject.reaching(handle, LauncherState.RUNNING)
    assert running.reason is None
    subject.release(handle)
    ended = await subject.reaching(handle, LauncherState.SUCCEEDED)
    assert (ended.reason, ended.message) == (
        (TerminationReason.COMPLETED, "The job finished.")
        if subject.tells_reasons
        else (None, "SUCCEEDED")
    )


async def test_a_job_waits_for_a_slot(subject: Subject) -> None:
    if subject.slots is None:
        pytest.skip(f"{subject.name} has a machine for each job")
    first, second = [await subject.launch(subject.holds) for _ in range(2)]
    for handle in (first, second):
        await subject.reaching(handle, LauncherState.RUNNING)
    third = await subject.launch(subject.holds)
    assert (await subject.seen(third)).state is LauncherState.PENDING
    subject.release(first)
    await subject.reaching(third, LauncherState.RUNNING)


async def test_a_job_that_fails_says_why(subject: Subject) -> None:
    handle = await subject.launch(subject.exits(3))
    ended = await subject.reaching(handle, LauncherState.FAILED)
    if not subject.tells_reasons:
        assert (ended.reason, ended.message) == (None, "FAILED")
        return
    assert ended.reason is TerminationReason.NONZERO_EXIT
    assert "exited with" in ended.message
    assert "code 3" in ended.message or not subject.tells_codes


async def test_a_setup_that_fails_fails_the_job(subject: Subject) -> None:
    handle = await subject.launch(subject.holds, setup="exit 4")
    ended = await subject.reaching(handle, LauncherState.FAILED)
    if not subject.tells_reasons:
        assert (ended.reason, ended.message) == (None, "FAILED")
        return
    if not subject.tells_setup:
        assert (ended.reason, ended.message) == (
            TerminationReason.NONZERO_EXIT,
            "The job exited with code 4.",
        )
        return
    assert ended.reason is TerminationReason.SETUP_FAILED
    if subject.tells_codes:
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
    first = await subject.launch(subject.exits(0))
    await subject.reaching(first, LauncherState.SUCCEEDED)
    before = set(await subject.observe())
    launches = [subject.launch(subject.holds, key=key) for _ in range(4)]
    handles = await asyncio.gather(*launches)
    assert handles == handles[:1] * 4
    await subject.reaching(handles[0], LauncherState.RUNNING)
    # A second job would have another id, or have begun too.
    assert set(await subject.observe()) - before == {handles[0].launcher_job_id}
    await eventually(lambda: subject.launched(key) == 1)
    subject.release(handles[0])
    await subject.reaching(handles[0], LauncherState.SUCCEEDED)
    assert subject.launched(key) == 1


async def test_jobs_launched_at_once_are_all_there(subject: Subject) -> None:
    handles = await asyncio.gather(*(subject.launch(subject.exits(0)) for _ in range(6)))
    if subject.lists_ended:
        listed = await subject.observe()
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
    # Whether it was us who cancelled it, the launcher need not know.
    assert ended.reason in (TerminationReason.USER_CANCELLED, None)


async def test_a_pending_job_is_cancelled_and_never_runs(subject: Subject) -> None:
    if subject.slots is None:
        pytest.skip(f"{subject.name} has a machine for each job")
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
    if not subject.forces:
        pytest.skip(f"{subject.name} has no cancel that is forced")
    handle = await subject.launch(subject.ignores)
    await subject.reaching(handle, LauncherState.RUNNING)
    await subject.launcher.cancel(handle, force=False)
    assert not (await subject.seen(handle)).state.is_terminal
    await subject.launcher.cancel(handle, force=True)
    await subject.reaching(handle, LauncherState.CANCELLED)


async def test_an_unknown_job_is_none(subject: Subject) -> None:
    await subject.launch(subject.exits(0))
    for unknown in ("unknown", "4000000"):
        handle = JobHandle(
            cloud=subject.cloud, cluster_name=subject.cluster, launcher_job_id=unknown
        )
        assert await subject.launcher.observe_job(handle) is None
        assert await subject.find(unknown) is None
        assert unknown not in await subject.observe()
        with pytest.raises((JobNotFound, ClusterUnreachable)):
            await subject.launcher.cancel(handle, force=False)


async def test_a_cluster_nobody_launched_on_has_no_jobs(subject: Subject) -> None:
    if subject.elsewhere is None:
        pytest.skip(f"{subject.name} is launched on clusters that exist")
    launcher, cloud, elsewhere = subject.launcher, subject.cloud, subject.elsewhere
    await subject.launch(subject.exits(0))
    assert await launcher.observe(cloud, elsewhere) == {}
    assert await launcher.find(cloud=cloud, cluster_name=elsewhere, key=new_key()) is None
    nowhere = JobHandle(cloud=cloud, cluster_name=elsewhere, launcher_job_id="unknown")
    assert await launcher.observe_job(nowhere) is None


async def test_a_cloud_that_does_not_exist_is_refused_by_name(subject: Subject) -> None:
    key = new_key()
    config = subject.config(subject.holds, key=key, cloud="nimbus")
    with pytest.raises(CloudUnavailable, match="nimbus"):
        await subject.launcher.launch(config, cloud="nimbus", cluster_name="x", key=key)
    with pytest.raises(CloudUnavailable, match="nimbus"):
        await subject.launcher.observe("nimbus", "x")


async def test_the_log_is_read_from_any_place_while_the_job_runs_and_after(
    subject: Subject,
) -> None:
    if not subject.has_logs:
        pytest.skip(f"{subject.name} has no readable logs")
    handle = await subject.launch(
        f"{subject.says('first')}\n{subject.holds}\n{subject.says('last')}"
    )
    read = subject.launcher.read_log

    async def written(text: bytes) -> bool:
        return text in await read(handle, offset=0, limit=10_000)

    await eventually(lambda: written(b"first\n"), timeout=subject.patience)
    start = (await read(handle, offset=0, limit=10_000)).index(b"first")
    assert await read(handle, offset=start + 2, limit=3) == b"rst"
    assert await read(handle, offset=start + 6, limit=10) == b""
    subject.release(handle)
    await subject.reaching(handle, LauncherState.SUCCEEDED)
    await eventually(lambda: written(b"last\n"), timeout=subject.patience)
    assert (await read(handle, offset=start, limit=10_000)).startswith(b"first\nlast\n")


async def test_a_cluster_that_does_not_answer_says_nothing_of_its_jobs(subject: Subject) -> None:
    if subject.unreachable is None:
        pytest.skip(f"{subject.name} always answers")
    key = new_key()
    handle = await subject.launch(subject.holds, key=key)
    await subject.reaching(handle, LauncherState.RUNNING)
    with subject.unreachable():
        for call in (
            subject.observe(),
            subject.launcher.observe_job(handle),
            subject.find(key),
            subject.launcher.cancel(handle, force=False),
        ):
            with pytest.raises(ClusterUnreachable):
                await call
    assert (await subject.seen(handle)).state is LauncherState.RUNNING
    subject.release(handle)
    await subject.reaching(handle, LauncherState.SUCCEEDED)


async def test_a_job_that_its_cluster_lost_is_unknown_or_lost(subject: Subject) -> None:
    if subject.forget is None:
        pytest.skip(f"{subject.name} loses no job")
    handle = await subject.launch(subject.holds)
    await subject.reaching(handle, LauncherState.RUNNING)
    subject.forget(handle)

    async def is_gone() -> bool:
        seen = await subject.launcher.observe_job(handle)
        listed = (await subject.observe()).get(handle.launcher_job_id)
        assert seen is None or seen.state is not LauncherState.SUCCEEDED
        return all(look is None or look.reason is TerminationReason.LOST for look in (seen, listed))

    await eventually(is_gone, timeout=subject.patience)


async def test_a_launch_that_was_cut_off_is_taken_up_by_the_next(subject: Subject) -> None:
    key = new_key()
    cut_off = asyncio.create_task(subject.launch(subject.holds, key=key))
    await asyncio.sleep(0)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    handle = await subject.launch(subject.holds, key=key)
    await subject.reaching(handle, LauncherState.RUNNING)
    await eventually(lambda: subject.launched(key) == 1)
