"""What the runs of one process share: launcher, watcher and cancel requests."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from flows.ports import Launcher
from flows.settings import Settings
from flows.watch import Watcher
from flows.worker_checks.checks import WorkerChecks


class CancelRequest:
    """What the Prefect server asked of one run: end it, now or gracefully, or just let go.

    Attributes:
        wanted: Set once somebody asked for the run's end.
        force: Whether the grace of the job is to be skipped.
        concluded: Whether somebody already put the run in a terminal state.
    """

    def __init__(self) -> None:
        self.wanted = asyncio.Event()
        self.force = False
        self.concluded = False
        self.news = asyncio.Event()

    def ask(self, *, force: bool, concluded: bool) -> None:
        """Note the request; asking again can only add to it."""
        if self.wanted.is_set() and self.force >= force and self.concluded >= concluded:
            return
        self.force |= force
        self.concluded |= concluded
        self.wanted.set()
        self.news.set()


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
        """What is checked on this machine before a launch; None: nothing."""
        self.settings = settings
        self.watcher = Watcher(launcher, settings)
        self.observes_cancels = observes_cancels
        """Whether somebody feeds `cancels`; otherwise a run looks at its own state."""
        self.cancels: dict[UUID, CancelRequest] = {}

    @contextmanager
    def cancel_request(self, flow_run_id: UUID) -> Generator[CancelRequest]:
        """The cancel request of one run, from now to the end of the context."""
        request = self.cancels.setdefault(flow_run_id, CancelRequest())
        try:
            yield request
        finally:
            self.cancels.pop(flow_run_id, None)


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
