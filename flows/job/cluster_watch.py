"""One poller per cluster, shared by every run on it."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from flows.core.errors import OumiFlowsError
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.launcher.port import Launcher, Observation

_GROWTH: Final = 1.3


@dataclass
class Watched:
    """The latest look at one job; `changed` is set whenever there is a newer one.

    Attributes:
        latest: The last observation, None before the first or while the job is unknown.
        unreachable: Why the last look failed; None when it succeeded.
        looks: Number of looks that succeeded since the watch began.
    """

    latest: Observation | None = None
    unreachable: str | None = None
    looks: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, latest: Observation | None, *, unreachable: str | None) -> bool:
        """Record a look; return whether it said anything new."""
        new = (unreachable is None) != (self.unreachable is None)
        self.unreachable = unreachable
        if unreachable is None:
            state = latest.state if latest else None
            new |= self.looks == 0 or state != (self.latest.state if self.latest else None)
            self.latest = latest
            self.looks += 1
        if new:
            self.changed.set()
        return new


class ClusterWatch:
    """Looks at one cluster at growing intervals while any of its jobs is watched."""

    def __init__(
        self, launcher: Launcher, settings: Settings, *, cloud: str, cluster: str, growth: float
    ) -> None:
        self._growth = growth
        self._launcher = launcher
        self._settings = settings
        self._cloud = cloud
        self._cluster = cluster
        self._jobs: list[tuple[str, Watched]] = []
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logger = logging.getLogger("prefect.oumi.watch")

    def add(self, launcher_job_id: str) -> Watched:
        """Watch one more job from now on."""
        watched = Watched()
        self._jobs.append((launcher_job_id, watched))
        self.hurry()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name=f"watch {self._cloud}")
        return watched

    def remove(self, watched: Watched) -> None:
        """Stop watching a job; polling stops with the last one."""
        self._jobs = [job for job in self._jobs if job[1] is not watched]
        if not self._jobs and self._task is not None:
            self._task.cancel()
            self._task = None

    def hurry(self) -> None:
        """Look again as soon as possible, and start over from the shortest interval."""
        self._hurry.set()

    async def _poll(self) -> None:
        shortest, longest = self._settings.poll_min_seconds, self._settings.poll_max_seconds
        interval = shortest
        while self._jobs:
            self._hurry.clear()
            changed = await self._look()
            interval = shortest if changed else min(interval * self._growth, longest)
            # A burst of jobs hurries once for each of them.
            await asyncio.sleep(shortest)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval - shortest):
                    await self._hurry.wait()
                    interval = shortest

    async def _look(self) -> bool:
        # A job that comes while the cluster answers may be missing from the answer.
        jobs = list(self._jobs)
        seen: dict[str, Observation] = {}
        unreachable: str | None = None
        try:
            seen = await self._launcher.observe(self._cloud, self._cluster)
        except OumiFlowsError as error:
            unreachable = error.what
        changed = False
        for job_id, job in jobs:
            changed |= job.update(seen.get(job_id), unreachable=unreachable)
        if changed and unreachable:
            self._logger.warning(
                "Cannot observe %s/%s: %s", self._cloud, self._cluster, unreachable
            )
        return changed


class Watcher:
    """The cluster watches of one process.

    Args:
        launcher: Asks the clusters.
        settings: The shortest and the longest polling interval.
        growth: Factor between two polling intervals while nothing changes.
    """

    def __init__(self, launcher: Launcher, settings: Settings, *, growth: float = _GROWTH) -> None:
        self._growth = growth
        self._launcher = launcher
        self._settings = settings
        self._clusters: dict[tuple[str, str], ClusterWatch] = {}

    @asynccontextmanager
    async def watch(self, handle: JobHandle) -> AsyncGenerator[tuple[Watched, ClusterWatch]]:
        """Watch a job while the context is open."""
        key = (handle.cloud, handle.cluster_name)
        cluster = self._clusters.get(key)
        if cluster is None:
            cluster = ClusterWatch(
                self._launcher,
                self._settings,
                cloud=key[0],
                cluster=key[1],
                growth=self._growth,
            )
            self._clusters[key] = cluster
        watched = cluster.add(handle.launcher_job_id)
        try:
            yield watched, cluster
        finally:
            cluster.remove(watched)
