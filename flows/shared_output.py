"""Which other jobs wrote to a job's folder while it ran, as Prefect knows them. Few calls."""

import asyncio
import os
from typing import Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterStartTime,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.types import DateTime

from flows import names

_PAGE: Final = 200
_PAGES: Final = 5


async def jobs_that_shared(run: FlowRun, client: PrefectClient) -> list[str]:
    """Other jobs on this cloud that wrote to the same folder since `run` began, for people.

    Raises:
        httpx.HTTPError: Prefect did not answer.
    """
    folder = run.labels.get(names.LABEL_OUTPUT_DIR)
    if not folder or run.start_time is None:
        return []
    runs = await _runs_since(run.start_time, client)
    return await asyncio.to_thread(_sharing, run, str(folder), runs)


async def _runs_since(began: DateTime, client: PrefectClient) -> list[FlowRun]:
    """The local jobs that were running at some time since `began`."""
    tags = FlowRunFilterTags(all_=[names.TAG, f"cloud:{names.LOCAL_CLOUD}"])
    started = FlowRunFilterStartTime(is_null_=False)
    found: list[FlowRun] = []
    for ended in (FlowRunFilterEndTime(is_null_=True), FlowRunFilterEndTime(after_=began)):
        wanted = FlowRunFilter(tags=tags, start_time=started, end_time=ended)
        for page in range(_PAGES):
            runs = await client.read_flow_runs(
                flow_run_filter=wanted, limit=_PAGE, offset=page * _PAGE
            )
            found += runs
            if len(runs) < _PAGE:
                break
    return found


def _sharing(run: FlowRun, folder: str, others: list[FlowRun]) -> list[str]:
    place = os.path.realpath(folder)
    return [
        f"{other.name} ({other.id})"
        for other in others
        if other.id != run.id
        and (named := other.labels.get(names.LABEL_OUTPUT_DIR))
        and os.path.realpath(str(named)) == place
    ]
