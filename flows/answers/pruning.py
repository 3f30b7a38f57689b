"""Removes ended runs from Prefect, and their files from this machine."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.answers.answering import answering
from flows.core import names
from flows.core.models import Pruned
from flows.core.old_files import OldFiles, delete_files, find_old_files
from flows.core.private_envs import find_references
from flows.core.settings import Settings
from flows.job.ledger import keep_accounts
from flows.job.prefect_calls import ENDED, filter_ended, read_all_runs, read_pages
from flows.job.run_record import RunRecord
from flows.job.runtime import current_runtime

_BULK_DELETE: Any = "/flow_runs/bulk_delete"
_LIVE: Final = [kind for kind in StateType if kind not in ENDED]


@flow(
    name=names.PRUNE_FLOW,
    persist_result=False,
    description="Remove ended runs and their files, or count them.",
)
@answering
async def prune(ended_before: datetime, *, dry_run: bool = True) -> Pruned:
    """Remove ended runs and their files, or count them.

    Args:
        ended_before: When they ended at the latest.
        dry_run: Whether only to count.
    """
    settings = current_runtime().settings
    pool = RunRecord.current().run.work_pool_name or settings.work_pool
    async with get_client() as client:
        ended_before = await keep_accounts(client, pool, ended_before, dry_run=dry_run)
        old = await find_files(client, settings, ended_before)
        runs = await client.count_flow_runs(flow_run_filter=_old_runs([names.TAG], ended_before))
        if not dry_run:
            await _delete_runs(client, ended_before)
            await asyncio.to_thread(delete_files, old)
    return _describe(runs, old, ended_before=ended_before, dry_run=dry_run)


def _describe(
    runs: int, old: Sequence[OldFiles], *, ended_before: datetime, dry_run: bool
) -> Pruned:
    size = sum(files.size for files in old)
    what = "Would remove" if dry_run else "Removed"
    return Pruned(
        summary=f"{what} {runs} jobs that ended before {ended_before:%Y-%m-%d %H:%M} UTC, and the "
        f"files of {len(old)} ({size / 1e6:,.1f} MB). Models and checkpoints stay.",
        done=not dry_run,
        ended_before=ended_before,
        runs=runs,
        files=len(old),
        file_bytes=size,
    )


async def prune_old_files(client: PrefectClient, settings: Settings) -> None:
    """Delete the files of jobs that ended longer ago than the setting `keep_days`."""
    if not settings.keep_days:
        return
    ended_before = datetime.now(UTC) - timedelta(days=settings.keep_days)
    old = await find_files(client, settings, ended_before)
    await asyncio.to_thread(delete_files, old)


async def find_files(
    client: PrefectClient, settings: Settings, ended_before: datetime
) -> list[OldFiles]:
    """Find the files of jobs that ended before a time; none of a job that has not ended."""
    live = await _live_runs(client)
    deployments = await read_pages(client.read_deployments)  # schedules are some
    texts = [json.dumps(owner.parameters, default=str) for owner in (*live, *deployments)]
    return await asyncio.to_thread(
        find_old_files,
        settings,
        ended_before=ended_before.timestamp(),
        live={run.id.hex for run in live},
        used_envs=set[str]().union(*map(find_references, texts)),
    )


async def _live_runs(client: PrefectClient) -> list[FlowRun]:
    unfinished = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[names.TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_LIVE)),
    )
    return await read_all_runs(client, flow_run_filter=unfinished)


def _old_runs(tags: list[str], ended_before: datetime) -> FlowRunFilter:
    """Runs that ended before a time, and no parts of a whole: they are let go by their whole."""
    wholes = FlowRunFilterParentTaskRunId(is_null_=True)
    return filter_ended(tags, ended_before).model_copy(update={"parent_task_run_id": wholes})


async def _delete_runs(client: PrefectClient, ended_before: datetime) -> None:
    """Delete old runs; Prefect lets go of the parts of a deleted whole, which follow."""
    wanted = _old_runs([names.TAG, names.CALL_TAG], ended_before).model_dump(
        mode="json", exclude_none=True
    )
    while True:
        # The client (prefect 3.9) has no method for this, and its type lists the paths of those.
        answer = await client.request("POST", _BULK_DELETE, json={"flow_runs": wanted})
        answer.raise_for_status()
        if not answer.json()["deleted"]:
            return
