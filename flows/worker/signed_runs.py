"""The runs on which a worker has written itself, and the end of its execution of one."""

from collections.abc import Container, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import UUID

import anyio
from prefect.client.schemas.objects import FlowRun

from flows.core.errors import OumiFlowsError
from flows.launcher.port import Launcher
from flows.worker.local_jobs import attempt_of, find_here, is_local
from flows.worker.ownership import Owner


class SignedRuns:
    """The executions of one worker that another worker may take over."""

    def __init__(self) -> None:
        self._scopes: dict[UUID, anyio.CancelScope] = {}
        self._signed: set[UUID] = set()
        self._given_up: dict[UUID, _GivenUp] = {}

    @contextmanager
    def execution(self, run_id: UUID) -> Generator[None]:
        """Make the body end when the run is let go."""
        try:
            with anyio.CancelScope() as self._scopes[run_id]:
                yield
        finally:
            self._scopes.pop(run_id, None)
            self._signed.discard(run_id)

    def sign(self, run_id: UUID) -> None:
        """Note that this worker has written itself on the run."""
        self._signed.add(run_id)

    def ids(self) -> frozenset[UUID]:
        """The runs that are signed now."""
        return frozenset(self._signed)

    async def let_go_of_taken(
        self, runs: Iterable[FlowRun], signed: Container[UUID], us: Owner, launcher: Launcher
    ) -> list[FlowRun]:
        """Stop executing what another worker took up while this one was cut off.

        Jobs elsewhere go on. A local one was given up, and ends; the next call tries again what
        could not be ended.

        Args:
            runs: The runs that should be executed, as they were read.
            signed: Those that were signed before they were read.
            us: This worker.
            launcher: Ends local jobs.

        Returns:
            The runs that were let go.
        """
        taken: list[FlowRun] = []
        for run in runs:
            owner = Owner.parse(run.infrastructure_pid)
            if run.id not in signed or owner is None or owner.is_process_of(us):
                continue
            self._signed.discard(run.id)
            if scope := self._scopes.get(run.id):
                scope.cancel()
            taken.append(run)
            if is_local(run):
                # In a shared home the last attempt may be that of the other worker.
                last = attempt_of(run) - owner.shares_home_with(us)
                self._given_up[run.id] = _GivenUp(run, last)
        for given_up in list(self._given_up.values()):
            with suppress(OumiFlowsError):
                await given_up.end(launcher)
                del self._given_up[given_up.run.id]
        return taken


class _GivenUp(NamedTuple):
    """A run whose local jobs end.

    Attributes:
        last: Its last attempt that was this worker's.
    """

    run: FlowRun
    last: int

    async def end(self, launcher: Launcher) -> None:
        for attempt in range(1, self.last + 1):
            job = await find_here(self.run, attempt, launcher)
            if job is not None:
                await launcher.cancel(job, force=True)
