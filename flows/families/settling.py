"""What the end of a pipeline or a sweep means to its jobs, and the retry of a job to the whole."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from flows.core import names
from flows.core.prefect_states import PREFECT_STATE, TERMINAL_TYPES
from flows.core.states import JobState, TerminationReason
from flows.families.children import patiently, retried_at
from flows.job.run_record import RunRecord

_PAGE: Final = 200
_LIVE: Final = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
_ENDED: Final = [StateType(name) for name in sorted(TERMINAL_TYPES)]


async def settle_parts(client: PrefectClient, *, pool: str) -> None:
    """Put right the live jobs of a pool whose pipeline or sweep has ended.

    Those that were retried since have it go on; those it left behind are ended.
    """
    live = [run for run in await _live_parts(client, pool) if names.LABEL_PARENT in run.labels]
    ids = {UUID(str(run.labels[names.LABEL_PARENT])) for run in live}
    parents = {str(run.id): run for run in await _ended(client, ids)} if ids else {}
    for run in live:
        parent = parents.get(str(run.labels[names.LABEL_PARENT]))
        if parent is not None:
            await _settle(run.id, parent, client)


async def rejoin(record: RunRecord) -> None:
    """Have the ended run go on that a job is a part of, if the job was retried since.

    Args:
        record: The job, at the beginning of an attempt after its first.
    """
    parent_id = record.labels.get(names.LABEL_PARENT)
    if parent_id is None:
        return
    if record.labels.get(names.LABEL_STOPPED):
        # Whoever retries what a sweep had stopped wants it to run to its end.
        await patiently(lambda: record.label({names.LABEL_STOPPED: ""}))
    try:
        parent = await patiently(lambda: record.client.read_flow_run(UUID(str(parent_id))))
    except ObjectNotFound:
        return
    if await _was_retried(record.run.id, parent, record.client):
        await _go_on(record.run, parent.id, record.client)


async def _settle(child_id: UUID, parent: FlowRun, client: PrefectClient) -> None:
    # Read after its parent: a parent that we concluded had no live job then.
    child = await client.read_flow_run(child_id)
    if child.state is None or child.state.type not in _LIVE:
        return
    if await _was_retried(child_id, parent, client):
        await _go_on(child, parent.id, client)
    else:
        message = "What it is a part of has ended."
        state = State[None](type=StateType.CANCELLING, name="Cancelling", message=message)
        await client.set_flow_run_state(child_id, state)


async def _was_retried(child_id: UUID, parent: FlowRun, client: PrefectClient) -> bool:
    """Whether a job was retried after the run that it is a part of had ended."""
    if parent.state is None or not parent.state.is_final():
        return False
    asked_at = retried_at(await patiently(lambda: client.read_flow_run_states(child_id)))
    if asked_at is None:
        return False
    # A run that we concluded may not have seen a retry that came a moment before.
    return _is_ours(parent.state) or asked_at > parent.state.timestamp


async def _go_on(child: FlowRun, parent_id: UUID, client: PrefectClient) -> None:
    record = RunRecord(await patiently(lambda: client.read_flow_run(parent_id)), client)
    if not record.is_concluded:
        return
    attempt = await patiently(record.next_attempt)
    await patiently(
        lambda: record.label(
            {
                names.LABEL_ONE_PART: attempt,
                names.LABEL_ATTEMPT: attempt,
                names.LABEL_FORCE_CANCEL: False,
            }
        )
    )
    state = Scheduled(
        name=PREFECT_STATE[JobState.RETRYING].name,
        message=f"{child.labels.get(names.LABEL_PART)} was retried.",
    )
    await patiently(lambda: client.set_flow_run_state(parent_id, state))


def _is_ours(state: "State[object]") -> bool:
    """Whether a terminal state was set by a run's own execution or cancel, not by a person."""
    return (state.message or "").partition(": ")[0] in TerminationReason.__members__.values()


async def _live_parts(client: PrefectClient, pool: str) -> list[FlowRun]:
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=False),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_LIVE)),
            ),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            # Those of a pool that was deleted have none.
            return [run for run in found if run.work_pool_name in (pool, None)]


async def _ended(client: PrefectClient, ids: Iterable[UUID]) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(any_=list(ids)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ENDED)),
        ),
        limit=_PAGE,
    )
