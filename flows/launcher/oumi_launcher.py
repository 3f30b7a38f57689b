"""The launcher port over Oumi's clouds: blocking calls in bounded threads, errors translated.

Importing `oumi.launcher` costs 10 CPU seconds and 1.1 GB (oumi 0.9), so the first call imports it
once, in a thread. Each cloud has a backend; see `clouds`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from flows.core.errors import (
    ClusterUnreachable,
    InvalidArgument,
    LaunchFailed,
    OumiFlowsError,
)
from flows.core.foreign_errors import first_line, translate_foreign
from flows.core.models import ClusterStatus, JobHandle
from flows.core.settings import Settings
from flows.launcher.bounded import Looks
from flows.launcher.cloud_backend import (
    CloudBackend,
    PausingBackend,
    known_clouds,
    make_backend,
)
from flows.launcher.lanes import Lanes
from flows.launcher.loading import load_oumi, prepare_local_jobs
from flows.launcher.port import ASKS_AGAIN, Clusters, Observation, UsageSample
from flows.launcher.remote_files import RemoteFiles
from flows.launcher.sky.client import load_if_used

T = TypeVar("T")

_LISTING_SECONDS = 6.0
"""Keeps a list of all clusters within 10 s, the call to the worker included."""

_BACKEND_SECONDS = 3.0
"""How long creating a cloud's backend may take; it uses no network."""

_LANE_WIDTH = 4
"""Concurrent calls to one cluster; a cluster that hangs delays no other."""


class OumiLauncher:
    """Every cloud in Oumi's registry.

    Args:
        settings: The settings of this process.
        make_backend: Creates the backend of a cloud, by its name.
        list_clouds: Names every cloud; None: Oumi's registry does.
        listing_seconds: How long one cloud may take to list its clusters.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        make_backend: Callable[[str, Settings], CloudBackend] = make_backend,
        list_clouds: Callable[[], list[str]] | None = None,
        listing_seconds: float = _LISTING_SECONDS,
    ) -> None:
        self._settings = settings
        self._make_backend = make_backend
        self._list_clouds = list_clouds or known_clouds
        self._listing_seconds = listing_seconds
        self._listings = Looks()
        self._backends: dict[str, CloudBackend] = {}
        self._calls = Lanes(width=_LANE_WIDTH)
        self._launches = Lanes(width=_LANE_WIDTH)
        # Lanes of their own: reads of logs that stall delay no observation of jobs.
        self._logs = Lanes(width=_LANE_WIDTH)

    async def warm_up(self) -> None:
        """Import Oumi's launcher, and have a process of its own import what jobs need."""

        def load() -> None:
            load_oumi()
            load_if_used()
            prepare_local_jobs()

        await self._launches.run("warm-up", load, timeout=self._settings.launch_timeout_seconds)

    async def reach(self, cloud: str, cluster_name: str) -> None:
        """Check that a job could be submitted to a cluster; change nothing.

        The time limit counts for the cluster, not for loading Oumi.
        """
        with translate_foreign(partial(_not_started, cloud)):
            await self._launches.run("backend", lambda: self._backend(cloud), timeout=None)
        await self._call(cloud, cluster_name, lambda backend: backend.reach(cluster_name))

    async def launch(
        self,
        job_config: str,
        *,
        cloud: str,
        cluster_name: str,
        key: str,
        autostop_minutes: int | None = None,
    ) -> JobHandle:
        """Start the job described by an Oumi job config (YAML), named `key` on the launcher.

        It has no time limit, and continues when its caller stops waiting.
        """

        def launch() -> JobHandle:
            with translate_foreign(partial(_not_started, cloud)):
                return self._backend(cloud).launch(
                    job_config,
                    cluster_name=cluster_name,
                    key=key,
                    autostop_minutes=autostop_minutes,
                )

        return await self._launches.run((cloud, cluster_name), launch, timeout=None)

    async def find(self, *, cloud: str, cluster_name: str, key: str) -> JobHandle | None:
        """The job launched as `key`, whatever its state; None if there is none."""
        return await self._call(
            cloud, cluster_name, lambda backend: backend.find(cluster_name, key)
        )

    async def observe(self, cloud: str, cluster_name: str) -> dict[str, Observation]:
        """All jobs of a cluster by launcher job id, in one call to it."""
        return await self._call(cloud, cluster_name, lambda backend: backend.observe(cluster_name))

    async def observe_job(self, handle: JobHandle) -> Observation | None:
        """One job, by the launcher's most exact means; None if it does not know it."""
        return await self._call(
            handle.cloud, handle.cluster_name, lambda backend: backend.observe_job(handle)
        )

    async def cancel(self, handle: JobHandle, *, force: bool) -> None:
        """Ask for the end of a job; `force` skips the grace where the cloud has one."""
        await self._call(
            handle.cloud, handle.cluster_name, lambda backend: backend.cancel(handle, force=force)
        )

    async def set_paused(self, handle: JobHandle, *, paused: bool) -> bool:
        """Freeze the processes of a job, or let them go on; return whether that is done."""

        def pause(backend: CloudBackend) -> bool:
            if isinstance(backend, PausingBackend):
                return backend.set_paused(handle, paused=paused)
            raise InvalidArgument(
                f"the jobs of {handle.cloud} cannot be paused", "Cancel the job instead"
            )

        return await self._call(handle.cloud, handle.cluster_name, pause)

    async def read_log(self, handle: JobHandle, *, offset: int, limit: int) -> bytes:
        """At most `limit` bytes of the job's output from `offset` on; none if there is none."""
        return await self._call(
            handle.cloud,
            handle.cluster_name,
            lambda backend: backend.read_log(handle, offset=offset, limit=limit),
            lanes=self._logs,
        )

    async def read_usage(self, handle: JobHandle) -> UsageSample | None:
        """What a job on a cluster used, as the cluster's accounting reports; None: it does not."""
        return await self._call(
            handle.cloud,
            handle.cluster_name,
            lambda backend: backend.read_usage(handle),
            lanes=self._logs,
        )

    async def files(self, handle: JobHandle, *, key: str) -> RemoteFiles:
        """How to reach the files of the job launched as `key`, on its cluster."""
        return await self._call(
            handle.cloud,
            handle.cluster_name,
            lambda backend: backend.files(handle, key),
            lanes=self._logs,
        )

    async def clusters(self, cloud: str) -> Clusters:
        """The clusters of a cloud, or of every cloud if it is empty."""
        if cloud:
            listed = await self._listing(cloud)
            found = [cluster for cluster in listed if cluster.cloud == cloud]
            return Clusters(clusters=found, unavailable={})
        servers, unavailable = await self._find_servers()
        answers = await asyncio.gather(*map(self._list_or_explain, servers.values()))
        found: list[ClusterStatus] = []
        for server, answer in zip(servers, answers, strict=True):
            if isinstance(answer, str):
                unavailable[server] = answer
            else:
                found += answer
        return Clusters(clusters=found, unavailable=unavailable)

    async def _find_servers(self) -> tuple[dict[str, str], dict[str, str]]:
        """Find one cloud to ask per server, and why other clouds cannot be asked."""
        names = await self._calls.run(
            "clouds", self._list_clouds, timeout=self._settings.launcher_timeout_seconds
        )
        found = await asyncio.gather(*map(self._server_of, names))
        servers: dict[str, str] = {}
        unavailable: dict[str, str] = {}
        for name, server in zip(names, found, strict=True):
            if isinstance(server, OumiFlowsError):
                unavailable[name] = server.sentences
            else:
                servers.setdefault(server, name)
        return servers, unavailable

    async def _server_of(self, cloud: str) -> str | OumiFlowsError:
        """What answers for a cloud, or the error that hides it."""
        limit = min(self._listing_seconds, _BACKEND_SECONDS)
        try:
            return await self._call(cloud, "", lambda backend: backend.server, limit=limit)
        except OumiFlowsError as error:
            return error

    async def look_at_cluster(self, cloud: str, cluster_name: str) -> None:
        """Check that a cluster exists and can be ended, as far as reading shows."""
        await self._call(cloud, cluster_name, lambda b: b.look_at(cluster_name))

    async def stop_cluster(self, cloud: str, cluster_name: str) -> None:
        """Stop a cluster, keeping its disks; return once it is confirmed as stopped."""
        limit = self._settings.launch_timeout_seconds
        await self._call(cloud, cluster_name, lambda b: b.stop(cluster_name), limit=limit)

    async def down_cluster(self, cloud: str, cluster_name: str) -> None:
        """Destroy a cluster and its disks; return once it is confirmed as gone."""
        limit = self._settings.launch_timeout_seconds
        await self._call(cloud, cluster_name, lambda b: b.down(cluster_name), limit=limit)

    async def _list_or_explain(self, cloud: str) -> list[ClusterStatus] | str:
        """List the clusters of a cloud's server, or explain why that failed."""
        try:
            return await self._listing(cloud)
        except OumiFlowsError as error:
            return error.sentences

    async def _listing(self, cloud: str) -> list[ClusterStatus]:
        """List the clusters of a cloud's server, within a time limit of its own."""
        backend = await self._call(cloud, "", lambda backend: backend)
        looks, limit = self._listings, self._listing_seconds
        return await self._translate_errors(
            cloud, "", looks.answer(backend.server, backend.clusters, within_seconds=limit), limit
        )

    async def _call(
        self,
        cloud: str,
        cluster_name: str,
        function: Callable[[CloudBackend], T],
        *,
        lanes: Lanes | None = None,
        limit: float | None = None,
    ) -> T:
        limit = self._settings.launcher_timeout_seconds if limit is None else limit
        answer = (lanes or self._calls).run(
            (cloud, cluster_name), lambda: function(self._backend(cloud)), timeout=limit
        )
        return await self._translate_errors(cloud, cluster_name, answer, limit)

    async def _translate_errors(
        self, cloud: str, cluster_name: str, answer: Awaitable[T], limit: float
    ) -> T:
        """Await the answer of a cloud; turn every exception into an error of flows.core.errors."""
        where = "/".join(filter(None, (cloud, cluster_name)))

        def unreachable(error: Exception) -> ClusterUnreachable:
            if isinstance(error, TimeoutError):
                return ClusterUnreachable(f"{where} did not answer within {limit:g} s", ASKS_AGAIN)
            return ClusterUnreachable(
                f"{where} could not be asked: {first_line(error)}", ASKS_AGAIN
            )

        with translate_foreign(unreachable):
            return await answer

    def _backend(self, cloud: str) -> CloudBackend:
        backend = self._backends.get(cloud)
        if backend is None:
            # Several threads may get here at once: all use the backend that was stored first.
            backend = self._backends.setdefault(cloud, self._make_backend(cloud, self._settings))
        return backend


def _not_started(cloud: str, error: Exception) -> LaunchFailed:
    return LaunchFailed(
        f"{cloud} could not start the job: {first_line(error)}", "Correct that and retry the job"
    )
