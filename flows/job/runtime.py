"""What the runs of one process share: launcher, watcher and cancel requests."""

import asyncio
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from flows.core.errors import ClusterUnreachable, OumiFlowsError
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.job.cluster_watch import Watcher
from flows.job.insight import LookRate
from flows.job.intervals import USUAL, Intervals
from flows.job.pause_request import PauseRequest
from flows.launcher.port import Launcher
from flows.machine_checks.checks import WorkerChecks

_FORCED_PAUSE_SECONDS: Final = 2.0
_REMEMBERED_SECONDS: Final = 600.0
"""How long after the end of a cluster the end of its jobs may be observed."""


class CancelState(NamedTuple):
    """What was requested of one run so far.

    Attributes:
        wanted: Whether the run's end is requested.
        forced: Whether the cancel is forced: the job gets no time to end by itself.
        concluded: Whether the run is in a terminal state already, or was deleted.
    """

    wanted: bool = False
    forced: bool = False
    concluded: bool = False


class CancelRequest:
    """The request of the Prefect server to end one run, or to stop executing it."""

    def __init__(self) -> None:
        self._state = CancelState()
        self._forced_at = 0.0
        self._change = asyncio.Event()

    def ask(self, *, force: bool, concluded: bool) -> None:
        """Note the request; a later one can only add to it."""
        before = self._state
        self._state = CancelState(
            wanted=True, forced=before.forced or force, concluded=before.concluded or concluded
        )
        if self._state == before:
            return
        if self._state.forced and not before.forced:
            self._forced_at = time.monotonic()
        change, self._change = self._change, asyncio.Event()
        change.set()

    @property
    def state(self) -> CancelState:
        """What was requested so far."""
        return self._state

    @property
    def is_wanted(self) -> bool:
        """Whether the run's end is requested."""
        return self._state.wanted

    @property
    def is_forced(self) -> bool:
        """Whether the cancel is forced."""
        return self._state.forced

    @property
    def is_concluded(self) -> bool:
        """Whether the run is in a terminal state already, or was deleted."""
        return self._state.concluded

    async def wait_for_change(self, since: CancelState) -> None:
        """Wait until something was requested that is not in `since`."""
        while self._state == since:
            await self._change.wait()

    async def wait_until_wanted(self) -> None:
        """Wait until the run's end is requested."""
        await self.wait_for_change(CancelState())

    async def wait_until_forced(self) -> None:
        """Wait until the cancel is forced."""
        while not self._state.forced:
            await self._change.wait()

    async def rest(self, seconds: float) -> None:
        """Wait before the next try; not longer than until more is requested."""
        if self.is_forced:
            await asyncio.sleep(min(seconds, _FORCED_PAUSE_SECONDS))
            return
        more = self.wait_until_forced() if self.is_wanted else self.wait_until_wanted()
        with suppress(TimeoutError):
            await asyncio.wait_for(more, seconds)

    def forced_for(self, seconds: float) -> bool:
        """Whether the cancel was forced at least so many seconds ago."""
        return self.is_forced and time.monotonic() - self._forced_at >= seconds


class Runtime:
    """Collaborators of every job flow that runs in one process."""

    def __init__(
        self,
        launcher: Launcher,
        settings: Settings,
        *,
        observes_cancels: bool,
        checks: WorkerChecks | None = None,
        intervals: Intervals = USUAL,
    ) -> None:
        self.launcher = launcher
        self.checks = checks
        """The checks on this machine before a launch; None: none."""
        self.settings = settings
        self.intervals = intervals
        self.watcher = Watcher(launcher, settings)
        self.observes_cancels = observes_cancels
        """Whether the worker fills `cancels`; otherwise a run looks at its own state."""
        self.cancels: dict[UUID, CancelRequest] = {}
        self.pauses: dict[UUID, PauseRequest] = {}
        """The pauses of the runs whose job can be paused."""
        self.look_rate = LookRate()
        self.drawing = asyncio.Lock()
        """Held by the run whose chart is drawn."""
        self.reserving = asyncio.Lock()
        """Held by the run that reserves its part of a budget."""
        self.over_budget: dict[UUID, str] = {}
        """Runs that must end because a budget is used up, and the figures."""
        self.budgets_changed = asyncio.Event()
        """Set when a budget was changed through this process."""
        self._late: set[asyncio.Task[None]] = set()
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

    @contextmanager
    def pause_request(self, run: FlowRun) -> Generator[PauseRequest]:
        """Register the pause of the run of a local job until the end of the context."""
        request = self.pauses.setdefault(run.id, PauseRequest())
        request.note(run.state)
        try:
            yield request
        finally:
            self.pauses.pop(run.id, None)

    def is_paused(self, flow_run_id: UUID) -> bool:
        """Whether the run of a local job is paused, as far as this process knows."""
        request = self.pauses.get(flow_run_id)
        return request is not None and request.wish.pause is not None

    def end_later(self, launching: asyncio.Future[JobHandle]) -> None:
        """Cancel the job of a launch that no run waits for any more, if it starts."""

        async def end() -> None:
            with suppress(OumiFlowsError):
                await self.launcher.cancel(await launching, force=True)

        self._keep(asyncio.create_task(end(), name="end of a late launch"))

    async def do_later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what no run waits for; in a process that ends with its run, wait for it."""
        if self.observes_cancels:
            self._keep(asyncio.create_task(work, name="work after a job"))
        else:
            await work

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._late.add(task)
        task.add_done_callback(self._late.discard)


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
