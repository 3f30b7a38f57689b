"""What the runs of one process share: launcher, watcher and cancel requests."""

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final
from uuid import UUID

from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.job.cluster_watch import Watcher
from flows.launcher.port import Launcher
from flows.machine_checks.checks import WorkerChecks

_FORCED_PAUSE_SECONDS: Final = 2.0
_REMEMBERED_SECONDS: Final = 600.0
"""How long after the end of a cluster the end of its jobs may be observed."""


class CancelRequest:
    """The request of the Prefect server to end one run, or to stop executing it.

    Attributes:
        wanted: Set once the run's end is requested.
        forced: Set once the cancel is forced: the job gets no time to end by itself.
        concluded: Whether the run is in a terminal state already, or was deleted.
        news: Set by each new request; the reader clears it.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.forced = asyncio.Event()
        self._forced_at = 0.0
        self.concluded = False
        self.news = asyncio.Event()

    def ask(self, *, force: bool, concluded: bool) -> None:
        """Note the request; a later one can only add to it."""
        if self.wanted.is_set() and self.force >= force and self.concluded >= concluded:
            return
        if force and not self.force:
            self._forced_at = time.monotonic()
            self.forced.set()
        self.concluded |= concluded
        self.wanted.set()
        self.news.set()

    @property
    def force(self) -> bool:
        """Whether the cancel is forced."""
        return self.forced.is_set()

    async def wait_for_change(self, *, within_seconds: float) -> None:
        """Wait until more is requested than now, for `within_seconds` at most."""
        more = self.forced if self.wanted.is_set() else self.wanted
        if more.is_set():
            await asyncio.sleep(min(within_seconds, _FORCED_PAUSE_SECONDS))
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(more.wait(), within_seconds)

    def forced_for(self, seconds: float) -> bool:
        """Whether the cancel was forced at least so many seconds ago."""
        return self.force and time.monotonic() - self._forced_at >= seconds


class Runtime:
    """Collaborators of every job flow that runs in one process."""

    def __init__(
        self,
        launcher: Launcher,
        settings: Settings,
        *,
        observes_cancels: bool,
        checks: WorkerChecks | None = None,
    ) -> None:
        self.launcher = launcher
        self.checks = checks
        """The checks on this machine before a launch; None: none."""
        self.settings = settings
        self.watcher = Watcher(launcher, settings)
        self.observes_cancels = observes_cancels
        """Whether the worker fills `cancels`; otherwise a run looks at its own state."""
        self.cancels: dict[UUID, CancelRequest] = {}
        self._late_ends: set[asyncio.Task[None]] = set()
        self._ended_clusters: dict[tuple[str, str], float] = {}

    @contextmanager
    def ending_cluster(self, cloud: str, cluster_name: str) -> Generator[None]:
        """During the end of a cluster, and a while after, count its jobs as cancelled by us."""
        place = (cloud, cluster_name)
        self._ended_clusters[place] = float("inf")
        try:
            yield
        except OumiFlowsError as error:
            if not isinstance(error, ClusterUnreachable):  # otherwise it may have been ordered
                self._ended_clusters.pop(place, None)
            raise
        finally:
            if place in self._ended_clusters:
                self._ended_clusters[place] = time.monotonic() + _REMEMBERED_SECONDS

    def has_ended_cluster(self, cloud: str, cluster_name: str) -> bool:
        """Whether we ended a cluster just now."""
        return self._ended_clusters.get((cloud, cluster_name), 0.0) > time.monotonic()

    @contextmanager
    def cancel_request(self, flow_run_id: UUID) -> Generator[CancelRequest]:
        """Register the cancel request of one run until the end of the context."""
        request = self.cancels.setdefault(flow_run_id, CancelRequest())
        try:
            yield request
        finally:
            self.cancels.pop(flow_run_id, None)

    def end_later(self, launching: asyncio.Future[JobHandle]) -> None:
        """Cancel the job of a launch that no run waits for any more, if it starts."""

        async def end() -> None:
            with suppress(OumiFlowsError):
                await self.launcher.cancel(await launching, force=True)

        task = asyncio.create_task(end(), name="end of a late launch")
        self._late_ends.add(task)
        task.add_done_callback(self._late_ends.discard)


_current: ContextVar[Runtime | None] = ContextVar("oumi_flows_runtime", default=None)


def current_runtime() -> Runtime:
    """The runtime of the worker around this run, or one of its own.

    A run outside the `oumi` worker (a process worker, a direct call) loads Oumi itself.
    """
    runtime = _current.get()
    if runtime is None:
        # Imported here: deploying or importing the flow must not load Oumi.
        from flows.launcher.oumi_launcher import OumiLauncher

        settings = Settings()
        runtime = Runtime(
            OumiLauncher(settings),
            settings,
            observes_cancels=False,
            checks=WorkerChecks.of_this_machine(),
        )
        _current.set(runtime)
    return runtime


def set_current_runtime(runtime: Runtime) -> None:
    """Make `runtime` the one that runs started from this context share."""
    _current.set(runtime)
