"""Which other jobs wrote to a job's folder while it ran, read from Prefect in a few calls."""

import asyncio
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterStartTime,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.types import DateTime

from flows.core import names
from flows.core.run_labels import RunLabels

_PAGE: Final = 200
_PAGES: Final = 5


class Sharing(NamedTuple):
    """The other jobs that wrote to a job's folder since it began.

    Attributes:
        jobs: The other jobs, for people.
        is_live: Whether one of them has not ended, so that it may still write there.
    """

    jobs: Sequence[str] = ()
    is_live: bool = False


async def jobs_that_shared(run: FlowRun, client: PrefectClient) -> Sharing:
    """The other local jobs that wrote to the same folder since `run` began.

    Raises:
        httpx.HTTPError: Prefect did not answer.
    """
    folder = RunLabels.read(run.labels).output_dir
    if not folder or run.start_time is None:
        return Sharing()
    runs = await _runs_since(run.start_time, client)
    return await asyncio.to_thread(_sharing, run, folder, runs)


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


def _sharing(run: FlowRun, folder: str, others: list[FlowRun]) -> Sharing:
    place = os.path.realpath(folder)
    found = [
        other
        for other in others
        if other.id != run.id
        and (named := RunLabels.read(other.labels).output_dir)
        and os.path.realpath(named) == place
    ]
    return Sharing(
        [f"{other.name} ({other.id})" for other in found],
        any(other.end_time is None for other in found),
    )
