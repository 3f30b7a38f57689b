"""Settles live jobs whose pipeline or sweep has ended: resumes the family, or ends the job."""

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
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from flows.core.run_labels import RunLabels
from flows.job.prefect_calls import ENDED, read_all_runs
from flows.job.rejoining import go_on, was_retried

_LIVE: Final = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]


async def settle_parts(client: PrefectClient, *, pool: str) -> None:
    """Settle the live jobs of a pool whose pipeline or sweep has ended.

    A job that was retried since resumes its pipeline or sweep; any other job is cancelled.
    """
    live = {run.id: RunLabels.read(run.labels).part_of for run in await _live_parts(client, pool)}
    ids = {UUID(whole) for whole in live.values() if whole}
    parents = {str(run.id): run for run in await _read_ended(client, ids)} if ids else {}
    for child_id, whole in live.items():
        parent = parents.get(whole or "")
        if parent is not None:
            await _settle(child_id, parent, client)


async def _settle(child_id: UUID, parent: FlowRun, client: PrefectClient) -> None:
    # Read after its parent: a parent that ended by itself had no live job then.
    child = await client.read_flow_run(child_id)
    if child.state is None or child.state.type not in _LIVE:
        return
    if await was_retried(child_id, parent, client):
        await go_on(child, parent.id, client)
    else:
        message = "Its pipeline or sweep has ended."
        await client.set_flow_run_state(child_id, Cancelling(message=message))


async def _live_parts(client: PrefectClient, pool: str) -> list[FlowRun]:
    found = await read_all_runs(
        client,
        flow_run_filter=FlowRunFilter(
            parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=False),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_LIVE)),
        ),
    )
    # Runs of a deleted pool have no pool.
    return [run for run in found if run.work_pool_name in (pool, None)]


async def _read_ended(client: PrefectClient, ids: Iterable[UUID]) -> list[FlowRun]:
    return await read_all_runs(
        client,
        flow_run_filter=FlowRunFilter(
            id=FlowRunFilterId(any_=list(ids)),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED)),
        ),
    )
