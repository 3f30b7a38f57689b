"""One poller per cluster, shared by every run on it."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from flows.errors import OumiFlowsError
from flows.ports import JobHandle, Launcher, Observation
from flows.settings import Settings

_GROWTH = 1.3
"""Factor between two polling intervals while nothing changes."""


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
        new = unreachable != self.unreachable or (
            unreachable is None and (latest and latest.state) != (self.latest and self.latest.state)
        )
        self.unreachable = unreachable
        if unreachable is None:
            self.latest = latest
            self.looks += 1
        if new or self.looks == 1:
            self.changed.set()
        return new


class ClusterWatch:
    """Looks at one cluster at growing intervals while any of its jobs is watched."""

    def __init__(self, launcher: Launcher, settings: Settings, *, cloud: str, cluster: str) -> None:
        self._launcher = launcher
        self._settings = settings
        self._cloud = cloud
        self._cluster = cluster
        self._jobs: dict[str, Watched] = {}
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logger = logging.getLogger("prefect.oumi.watch")

    def add(self, launcher_job_id: str) -> Watched:
        """Watch one more job from now on."""
        watched = self._jobs.setdefault(launcher_job_id, Watched())
        self.hurry()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name=f"watch {self._cloud}")
        return watched

    def remove(self, launcher_job_id: str) -> None:
        """Stop watching a job; polling stops with the last one."""
        self._jobs.pop(launcher_job_id, None)
        if not self._jobs and self._task is not None:
            self._task.cancel()
            self._task = None

    def hurry(self) -> None:
        """Look again at once, and start over from the shortest interval."""
        self._hurry.set()

    async def _poll(self) -> None:
        interval = self._settings.poll_min_seconds
        while self._jobs:
            self._hurry.clear()
            changed = await self._look()
            interval = (
                self._settings.poll_min_seconds
                if changed
                else min(interval * _GROWTH, self._settings.poll_max_seconds)
            )
            try:
                async with asyncio.timeout(interval):
                    await self._hurry.wait()
                interval = self._settings.poll_min_seconds
            except TimeoutError:
                pass

    async def _look(self) -> bool:
        seen: dict[str, Observation] = {}
        unreachable: str | None = None
        try:
            seen = await self._launcher.observe(self._cloud, self._cluster)
        except OumiFlowsError as error:
            unreachable = error.what
            self._logger.warning("Cannot observe %s/%s: %s", self._cloud, self._cluster, error)
        changed = False
        for job_id, job in list(self._jobs.items()):
            changed |= job.update(seen.get(job_id), unreachable=unreachable)
        return changed


class Watcher:
    """The cluster watches of one process."""

    def __init__(self, launcher: Launcher, settings: Settings) -> None:
        self._launcher = launcher
        self._settings = settings
        self._clusters: dict[tuple[str, str], ClusterWatch] = {}

    @asynccontextmanager
    async def watch(self, handle: JobHandle) -> AsyncGenerator[tuple[Watched, ClusterWatch]]:
        """Watch a job while the context is open."""
        key = (handle.cloud, handle.cluster_name)
        cluster = self._clusters.get(key)
        if cluster is None:
            cluster = ClusterWatch(self._launcher, self._settings, cloud=key[0], cluster=key[1])
            self._clusters[key] = cluster
        watched = cluster.add(handle.launcher_job_id)
        try:
            yield watched, cluster
        finally:
            cluster.remove(handle.launcher_job_id)
