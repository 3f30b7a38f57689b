"""The flow runs of one work pool for which a worker is responsible."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.core import names
from flows.core.run_labels import RunLabels
from flows.job.intervals import USUAL, Intervals
from flows.job.prefect_calls import ENDED, PAGE, filter_ended, read_all_runs
from flows.launcher.port import Launcher
from flows.worker.local_jobs import attempt_of, find_here, is_local
from flows.worker.other_workers import OtherWorkers
from flows.worker.ownership import Owner

LATE = "Late"
"""The state name of a run that waits for a slot or a worker. It is the only name that the server
refuses once the run is no longer scheduled (prefect 3.9), so it cannot undo a later cancel."""

_STEP = timedelta(seconds=5)
"""How far ahead a time must be to show that the clock was set back after it."""

_ASKING = [
    StateType.CANCELLING,
    StateType.PAUSED,
    StateType.SCHEDULED,  # a suspended run that was resumed
    *ENDED,
]
# A paused run is one of them: its job has not ended and must be watched.
_EXECUTING = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


class PoolRuns:
    """Queries the server for a pool's runs.

    Args:
        client: The client of the worker.
        pool: The pool's name.
        owner: The worker's process.
        others: The workers of the pool; None: nothing is known of those of other machines.
        launcher: Knows the local jobs of this machine; None: it has none.
        intervals: How old an orphan is, and how long a claim takes.
        page: How many flow runs the API is asked for at once.
    """

    def __init__(
        self,
        client: PrefectClient,
        pool: str,
        owner: Owner,
        *,
        others: OtherWorkers | None = None,
        launcher: Launcher | None = None,
        intervals: Intervals = USUAL,
        page: int = PAGE,
    ) -> None:
        self._client = client
        self._pool = pool
        self._owner = owner
        self._others = others
        self._launcher = launcher
        self._intervals = intervals
        self._page = page

    async def find_asking(self, ids: list[UUID]) -> list[FlowRun]:
        """Find the runs among `ids` whose state asks something of the worker that executes them.

        They are being cancelled, have a terminal state, are paused, or go on after a pause.
        """
        return await self._read(_ASKING, ids=ids)

    async def find_deleted(self, ids: list[UUID]) -> set[UUID]:
        """Find the runs among `ids` that the server no longer has."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=ids))
        if await self._client.count_flow_runs(flow_run_filter=wanted) == len(ids):
            return set()
        found = {run.id for run in await self._read(None, ids=ids)}
        gone: set[UUID] = set()
        for missing in set(ids) - found:
            # Ask for each one: a list may be out of date, and the job ends because of the answer.
            try:
                await self._client.read_flow_run(missing)
            except ObjectNotFound:
                gone.add(missing)
        return gone

    async def find_executing(self) -> list[FlowRun]:
        """Find the runs that should be executed."""
        return await self._read(_EXECUTING, ids=None)

    async def find_orphans(self) -> list[FlowRun]:
        """Find runs that should be executed, and that no other worker executes."""
        return await self.choose_orphans(await self.find_executing())

    async def choose_orphans(self, runs: Iterable[FlowRun]) -> list[FlowRun]:
        """Choose the runs that no other worker executes.

        The runs of a worker of another machine are, once it is gone, if they need nothing of that
        machine: pipelines, sweeps and jobs on clouds. Others are once a person forgets the machine.
        """
        now = datetime.now(UTC)
        orphans: list[FlowRun] = []
        foreign: dict[str, list[FlowRun]] = {}
        for run in runs:
            if self._is_orphan(run, now=now):
                orphans.append(run)
            elif worker := worker_to_observe(run, self._owner):
                foreign.setdefault(worker, []).append(run)
        if foreign and self._others is not None:
            gone = await self._others.find_gone(foreign)
            for worker in gone.names:
                orphans += [
                    run
                    for run in foreign[worker]
                    if worker in gone.forgotten or await self._can_move(run)
                ]
        return orphans

    async def _can_move(self, run: FlowRun) -> bool:
        """Whether a run of a worker that is gone can go on here.

        Those with a local job can if it is here: the machine was started again under another name,
        or the worker in another container. A cloned machine has our ids, but none of our jobs.
        """
        if not is_local(run):
            return True
        owner = Owner.parse(run.infrastructure_pid)
        if owner is None or self._launcher is None or not owner.has_ids_of(self._owner):
            return False
        return await find_here(run, attempt_of(run), self._launcher) is not None

    async def bring_forward(self) -> None:
        """Reschedule runs whose start time is far ahead because the clock was set back."""
        now = datetime.now(UTC)
        for run in await self._read([StateType.SCHEDULED], ids=None):
            delay = delay_after_step(run, now=now)
            if delay is None or run.state is None:
                continue
            state = Scheduled(scheduled_time=now + delay, name=LATE, message=run.state.message)
            await self._client.set_flow_run_state(run.id, state)

    async def find_lost(self) -> list[FlowRun]:
        """Find unfinished runs of this worker whose work pool or queue was deleted.

        Prefect clears the pool of these runs, so they are in no list of a pool. Runs that should be
        executed are orphans; scheduled ones are due.
        """
        states = FlowRunFilter(state=_in_state([StateType.SCHEDULED, *_EXECUTING]))
        named = FlowFilter(name=FlowFilterName(any_=sorted(names.JOB_FLOWS)))
        found = await read_all_runs(self._client, flow_run_filter=states, flow_filter=named)
        found = [run for run in found if run.work_pool_name is None]
        if not found:
            return []
        ours = await self._deployments()
        is_only = await self._is_only_pool()
        now = datetime.now(UTC)
        return [
            run
            for run in found
            if self._is_of_this_pool(run, deployments=ours, is_only_pool=is_only)
            and (_is_due(run, now=now) or self._is_orphan(run, now=now))
        ]

    async def remove_old_answers(self) -> None:
        """Delete runs that answered a question of the server, some time after they ended.

        Prefect's own vacuum deletes by age alone, and would take jobs as well (prefect 3.9).
        """
        before = datetime.now(UTC) - timedelta(seconds=self._intervals.answers_kept)
        wanted = filter_ended([names.CALL_TAG], before)
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._pool]))
        old = await self._client.read_flow_runs(
            flow_run_filter=wanted, work_pool_filter=pool, limit=self._page
        )
        for run in old:
            with suppress(ObjectNotFound):
                await self._client.delete_flow_run(run.id)

    def _is_orphan(self, run: FlowRun, *, now: datetime) -> bool:
        return is_orphan(run, self._owner, now=now, unowned_seconds=self._intervals.unowned)

    def _is_of_this_pool(self, run: FlowRun, *, deployments: set[UUID], is_only_pool: bool) -> bool:
        """Whether a run without a pool belongs to this pool, by its own labels and owner."""
        pool = RunLabels.read(run.labels).work_pool
        if pool is not None:
            return pool == self._pool
        if run.infrastructure_pid:
            owner = Owner.parse(run.infrastructure_pid)
            if owner is None:  # a process worker's
                return False
            if owner.is_alive(self._owner) is not None:
                return True
        if run.deployment_id is None:  # called by hand, not submitted
            return False
        return run.deployment_id in deployments or (is_only_pool and names.TAG in run.tags)

    async def _deployments(self) -> set[UUID]:
        ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._pool]))
        found = await self._client.read_deployments(work_pool_filter=ours, limit=self._page)
        return {deployment.id for deployment in found}

    async def _is_only_pool(self) -> bool:
        """Whether no other pool runs Oumi jobs, so that runs without a pool belong to this one."""
        pools = await self._client.read_work_pools(limit=self._page)
        return [pool.name for pool in pools if pool.type == names.WORKER_TYPE] == [self._pool]

    async def claim(self, run: FlowRun) -> FlowRun | None:
        """Claim an orphan for this worker; return the run, None if another worker has it.

        Workers that start together see the same orphans, and Prefect has no conditional update of a
        run (prefect 3.8): the last worker to write itself on the run has it.
        """
        owner = str(self._owner)
        if run.infrastructure_pid != owner:
            await self._client.update_flow_run(run.id, infrastructure_pid=owner)
            await asyncio.sleep(self._intervals.claim)
        run = await self._client.read_flow_run(run.id)
        is_ours = run.infrastructure_pid == owner
        return run if is_ours and run.state is not None and run.state.type in _EXECUTING else None

    async def _read(
        self, types: list[StateType] | None, *, ids: list[UUID] | None
    ) -> list[FlowRun]:
        wanted = FlowRunFilter(
            id=FlowRunFilterId(any_=ids) if ids is not None else None,
            state=_in_state(types) if types is not None else None,
        )
        if ids is not None:  # they may have lost their pool meanwhile
            return await read_all_runs(self._client, page=self._page, flow_run_filter=wanted)
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._pool]))
        return await read_all_runs(
            self._client, page=self._page, flow_run_filter=wanted, work_pool_filter=pool
        )


def _is_due(run: FlowRun, *, now: datetime) -> bool:
    if run.state is None or not run.state.is_scheduled():
        return False
    return (run.next_scheduled_start_time or now) <= now


def _in_state(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def delay_after_step(run: FlowRun, *, now: datetime) -> timedelta | None:
    """How long a run must still wait if its start time was set before the clock went back.

    None if the clock did not go back since, or if the run starts at a fixed time of day: a run of a
    schedule, or one that a person has postponed.
    """
    state = run.state
    if state is None or state.timestamp - now < _STEP:
        return None
    due = state.state_details.scheduled_time or state.timestamp
    delay = timedelta(seconds=max(0.0, due.timestamp() - state.timestamp.timestamp()))
    is_appointment = run.run_count == 0 and (run.auto_scheduled or delay > _STEP)
    return None if is_appointment else delay


def worker_to_observe(run: FlowRun, us: Owner) -> str:
    """The worker of a job that only its heartbeats tell of; empty: there is none."""
    owner = Owner.parse(run.infrastructure_pid)
    if owner is None or owner.is_alive(us) is not None or names.TAG not in run.tags:
        return ""
    return owner.worker


def is_orphan(
    run: FlowRun, us: Owner, *, now: datetime, unowned_seconds: float = USUAL.unowned
) -> bool:
    """Whether no other worker executes a run that should be executed."""
    if run.state is not None and run.state.is_scheduled():
        return False
    owner = Owner.parse(run.infrastructure_pid)
    if owner and not owner.is_process_of(us) and owner.is_alive(us) is not False:
        return False
    if owner is None or (run.state is not None and run.state.is_pending()):
        # The worker that proposed Pending may not have written itself on the run yet.
        since = run.state.timestamp if run.state else run.created
        # A time far ahead was written before the clock was set back: the run is older than that.
        return since is not None and abs((now - since).total_seconds()) > unowned_seconds
    return True
