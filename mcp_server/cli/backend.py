"""The engine and the jobs of this machine, for a command of one process's life."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio.to_thread

from flows.core.settings import Settings
from mcp_server.catalog.catalog import Catalog
from mcp_server.catalog.library import OumiLibrary
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Checks, Clusters, Jobs, Pipelines, Schedules, Sweeps
from mcp_server.engine import Connection, Engine
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.checks import make_checks
from mcp_server.services.cluster_jobs import ClusterJobs
from mcp_server.services.clusters import ClusterService
from mcp_server.services.families.pipelines import PipelineService
from mcp_server.services.families.sweeps import SweepService
from mcp_server.services.jobs.service import JobService
from mcp_server.services.schedules.service import make_schedules
from mcp_server.services.worker_calls import WorkerCalls

T = TypeVar("T")


class HereBackend:
    """What the commands work on when a person runs them.

    Args:
        settings: What a person can set.
        environ: The environment that may name a Prefect server.
        output: Where it reports the steps of bringing the engine up.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], output: Output) -> None:
        self._settings = settings
        self._output = output
        self.engine = Engine(settings, environ=environ)

    def call(self, use: Callable[[Jobs], Awaitable[T]], *, needs_engine: bool = True) -> T:
        """Use the jobs.

        Args:
            use: What to do with them.
            needs_engine: Whether to bring the engine up first.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        settings = self._settings
        return self._run(
            lambda gateway: use(
                JobService(
                    gateway,
                    snapshots_dir=settings.snapshots_dir,
                    records_dir=settings.records_dir,
                    home=settings.home,
                )
            ),
            needs_engine=needs_engine,
        )

    def checks(self, use: Callable[[Checks], Awaitable[T]]) -> T:
        """Use the checks; without a worker, skip those that need one."""
        settings = self._settings
        configs = Catalog(OumiLibrary(settings))
        return self._run(
            lambda gateway: use(make_checks(settings, gateway, configs)), needs_engine=False
        )

    def schedules(
        self, use: Callable[[Schedules], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        """Use the schedules.

        Args:
            use: What to do with them.
            needs_engine: Whether to bring the engine up first.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        return self._run(
            lambda gateway: use(make_schedules(self._settings, gateway)), needs_engine=needs_engine
        )

    def clusters(self, use: Callable[[Clusters], Awaitable[T]]) -> T:
        """Use the clusters.

        Args:
            use: What to do with them.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        return self._run(
            lambda gateway: use(ClusterService(WorkerCalls(gateway), ClusterJobs(gateway))),
            needs_engine=True,
        )

    def pipelines(
        self, use: Callable[[Pipelines], Awaitable[T]], *, needs_engine: bool = True
    ) -> T:
        """Use the pipelines.

        Args:
            use: What to do with them.
            needs_engine: Whether to bring the engine up first.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        folder = self._settings.snapshots_dir
        return self._run(
            lambda gateway: use(PipelineService(gateway, snapshots_dir=folder)),
            needs_engine=needs_engine,
        )

    def sweeps(self, use: Callable[[Sweeps], Awaitable[T]], *, needs_engine: bool = True) -> T:
        """Use the sweeps.

        Args:
            use: What to do with them.
            needs_engine: Whether to bring the engine up first.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        folder = self._settings.snapshots_dir
        return self._run(
            lambda gateway: use(SweepService(gateway, snapshots_dir=folder)),
            needs_engine=needs_engine,
        )

    def _run(self, use: Callable[[PrefectGateway], Awaitable[T]], *, needs_engine: bool) -> T:
        # Not in the event loop, in which Ctrl-C would not end it.
        found = self._ensure() if needs_engine else self.engine.running()
        source = FoundEngine(self._ensure, found)
        return asyncio.run(self._use(use, source))

    async def _use(self, use: Callable[[PrefectGateway], Awaitable[T]], source: "FoundEngine") -> T:
        gateway = PrefectGateway(
            source,
            timeout_seconds=self._settings.api_timeout_seconds,
            work_pool=self._settings.work_pool,
        )
        try:
            return await use(gateway)
        finally:
            await gateway.aclose()

    def _ensure(self) -> Connection:
        with self._output.steps() as report:
            return self.engine.ensure(report=report)


class FoundEngine:
    """The engine as a command found it; looks again when it does not answer.

    Args:
        ensure: Finds or starts the engine. Blocks.
        found: What it answered; None: not looked yet.
    """

    def __init__(self, ensure: Callable[[], Connection], found: Connection | None) -> None:
        self._ensure = ensure
        self._found = found

    @property
    def known_connection(self) -> Connection | None:
        """The engine's connection, if it was found before."""
        return self._found

    async def connection(self) -> Connection:
        """The engine's connection."""
        return self._found or await self.revive()

    async def revive(self) -> Connection:
        """The connection after another look.

        Raises:
            EngineUnavailable: It could not be brought up.
        """
        self._found = await anyio.to_thread.run_sync(self._ensure, abandon_on_cancel=True)
        return self._found
