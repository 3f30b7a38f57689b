"""The runs on which a worker has written itself, and the end of its execution of one."""

from collections.abc import Container, Generator, Iterable
from contextlib import contextmanager
from uuid import UUID

import anyio
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.run_labels import RunLabels
from flows.launcher.port import Launcher
from flows.worker.ownership import Owner
from flows.worker.pool_runs import is_local


class SignedRuns:
    """The executions of one worker that another worker may take over."""

    def __init__(self) -> None:
        self._scopes: dict[UUID, anyio.CancelScope] = {}
        self._signed: set[UUID] = set()

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
        """Stop executing what another worker took up while this one was not heard of.

        Jobs elsewhere go on. A local one was given up, and ends.

        Args:
            runs: The runs that should be executed, as they were read.
            signed: Those that were signed before they were read.
            us: This worker.
            launcher: Ends local jobs.

        Returns:
            The runs that were let go.

        Raises:
            OumiFlowsError: A local job could not be ended.
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
                await _end_job(run, launcher, shares_home=owner.shares_home_with(us))
        return taken


async def _end_job(run: FlowRun, launcher: Launcher, *, shares_home: bool) -> None:
    """End all that attempts of a job left on this machine."""
    last = RunLabels.read(run.labels).attempt or 1
    # In a shared home the last attempt may be that of the other worker.
    for number in range(1, last + (not shares_home)):
        job = await launcher.find(
            cloud=names.LOCAL_CLOUD,
            cluster_name=names.LOCAL_CLUSTER,
            key=names.launch_key(run.id, number),
        )
        if job is not None:
            await launcher.cancel(job, force=True)
