"""One poller per cluster, whatever the number of its jobs."""

import asyncio
from itertools import pairwise

import pytest

from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.job.cluster_watch import Watched, Watcher
from flows.launcher.port import LauncherState, Observation
from tests.support.fake_launcher import FakeLauncher
from tests.support.waiting import eventually


class TimedLauncher(FakeLauncher):
    """A launcher that notes when it was looked at, and can be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_at: list[float] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def observe(self, cloud: str, cluster_name: str) -> dict[str, Observation]:
        self.looked_at.append(asyncio.get_running_loop().time())
        seen = await super().observe(cloud, cluster_name)
        await self.answering.wait()
        return seen

    async def job(self, key: str) -> JobHandle:
        return await self.launch("run: hold", cloud="local", cluster_name="local", key=key)

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.looked_at)]


@pytest.fixture
async def launcher() -> TimedLauncher:
    return TimedLauncher()


def watcher(launcher: TimedLauncher, *, shortest: float = 0.02, longest: float = 0.1) -> Watcher:
    return Watcher(launcher, Settings(poll_min_seconds=shortest, poll_max_seconds=longest))


async def looks(watched: Watched, count: int) -> None:
    await eventually(lambda: watched.looks >= count, interval=0.005, timeout=30)


async def test_a_look_tells_every_job_of_the_cluster(launcher: TimedLauncher) -> None:
    watching = watcher(launcher)
    handles = [await launcher.job(f"job-{n}") for n in range(50)]
    async with asyncio.TaskGroup() as group:
        enough = asyncio.Event()

        async def watch(handle: JobHandle) -> None:
            async with watching.watch(handle) as (watched, _):
                await looks(watched, 4)
                assert watched.latest is not None
                assert watched.latest.state is LauncherState.RUNNING
                assert len(launcher.looked_at) - watched.looks <= 1
                await enough.wait()

        tasks = [group.create_task(watch(handle)) for handle in handles]
        enough.set()
        await asyncio.wait(tasks)


async def test_jobs_that_come_in_a_burst_cost_no_look_each(launcher: TimedLauncher) -> None:
    watching = watcher(launcher, shortest=0.05)
    async with watching.watch(await launcher.job("first")) as (first, cluster):
        others: list[Watched] = []
        for n in range(100):
            others.append(cluster.add(f"job-{n}"))
            await asyncio.sleep(0)
        await looks(first, 4)
        assert min(launcher.gaps) >= 0.05 * 0.9
        for other in others:
            cluster.remove(other)


async def test_intervals_grow_while_nothing_changes_and_start_over_when_something_does(
    launcher: TimedLauncher,
) -> None:
    async with watcher(launcher).watch(await launcher.job("job")) as (watched, _):
        await looks(watched, 10)
        lower_bounds = [0.02 * 1.3**n for n in range(6)]
        # The first look brought news, so the interval after it is the shortest.
        pairs = zip(launcher.gaps, lower_bounds, strict=False)
        assert all(gap >= 0.95 * bound for gap, bound in pairs)
        assert launcher.gaps[-1] >= 0.095
        watched.changed.clear()
        launcher.jobs["job"].succeed()
        await asyncio.wait_for(watched.changed.wait(), 10)
        assert watched.latest is not None
        assert watched.latest.state is LauncherState.SUCCEEDED


async def test_whoever_is_in_a_hurry_does_not_wait_for_the_interval(
    launcher: TimedLauncher,
) -> None:
    settings = Settings(poll_min_seconds=0.02, poll_max_seconds=600)
    watching = Watcher(launcher, settings, growth=1e6)
    async with watching.watch(await launcher.job("job")) as (watched, cluster):
        await looks(watched, 2)
        cluster.hurry()
        await looks(watched, 3)


async def test_a_cluster_that_does_not_answer_is_unreachable_until_it_does(
    launcher: TimedLauncher,
) -> None:
    async with watcher(launcher).watch(await launcher.job("job")) as (watched, _):
        await looks(watched, 1)
        watched.changed.clear()
        launcher.unreachable = "on holiday"
        await asyncio.wait_for(watched.changed.wait(), 10)
        assert watched.unreachable == "on holiday"
        assert watched.latest is not None  # as it was last seen
        watched.changed.clear()
        seen = len(launcher.looked_at)
        await eventually(lambda: len(launcher.looked_at) > seen + 2, interval=0.005, timeout=30)
        assert not watched.changed.is_set()  # that is no news
        launcher.unreachable = None
        await asyncio.wait_for(watched.changed.wait(), 10)
        assert watched.unreachable is None


async def test_polling_ends_with_the_last_job(launcher: TimedLauncher) -> None:
    watching = watcher(launcher)
    first, second = await launcher.job("first"), await launcher.job("second")
    async with watching.watch(second) as (watched, _):
        async with watching.watch(first):
            pass
        await looks(watched, 3)
    await eventually(
        lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("watch")]
    )
    async with watching.watch(first) as (watched, _):
        await looks(watched, 1)


async def test_a_job_added_during_a_look_is_not_called_missing_by_it(
    launcher: TimedLauncher,
) -> None:
    launcher.answering.clear()
    watching = watcher(launcher)
    async with watching.watch(await launcher.job("first")) as (first, _):
        await eventually(lambda: len(launcher.looked_at) == 1, interval=0.005)
        async with watching.watch(await launcher.job("second")) as (second, _):
            launcher.answering.set()
            await looks(first, 1)
            await looks(second, 1)
            assert first.looks - second.looks == 1
            assert second.latest is not None


async def test_a_job_the_cluster_does_not_list_is_known_to_be_missing(
    launcher: TimedLauncher,
) -> None:
    gone = JobHandle(cloud="local", cluster_name="local", launcher_job_id="gone")
    async with watcher(launcher).watch(gone) as (watched, _):
        await asyncio.wait_for(watched.changed.wait(), 10)
        assert (watched.looks, watched.latest, watched.unreachable) == (1, None, None)


async def test_who_watches_a_job_sees_it_when_another_has_stopped(launcher: TimedLauncher) -> None:
    """Two runs may follow one id: of a job that is gone, and of the one that has its id now."""
    watching = watcher(launcher)
    handle = await launcher.job("job")
    async with watching.watch(handle) as (watched, _):
        async with watching.watch(handle) as (another, _):
            await looks(another, 1)
        launcher.jobs["job"].succeed()
        await eventually(lambda: watched.latest and watched.latest.state.is_terminal, timeout=30)
