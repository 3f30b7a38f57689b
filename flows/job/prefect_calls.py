"""Calls to Prefect that are repeated until it answers, and job states read from its runs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.core.prefect_states import TERMINAL_TYPES, job_state
from flows.core.states import JobState

PAGE: Final = 200
"""Most flow runs the API returns at once (prefect 3.8)."""

ENDED: Final = [StateType(name) for name in sorted(TERMINAL_TYPES)]
"""The types of the states of runs that have ended."""

_TOO_MANY: Final = 429
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0

T = TypeVar("T")


def state_of(run: FlowRun) -> JobState:
    """The job state of a run."""
    state = run.state
    return job_state(state.type.value, state.name or "") if state else JobState.SCHEDULED


def retried_at(history: "Iterable[State[Any]]") -> datetime | None:
    """When a retry was last requested for a run that had ended; None: never."""
    asked_at: datetime | None = None
    has_ended = False
    for state in sorted(history, key=lambda one: one.timestamp):
        if state.is_scheduled() and has_ended:
            asked_at = state.timestamp
        has_ended = state.is_final()
    return asked_at


async def read_all_runs(
    client: PrefectClient, *, page: int = PAGE, **filters: Any
) -> list[FlowRun]:
    """Read all runs that match; `filters` as in `PrefectClient.read_flow_runs`."""
    return await read_pages(client.read_flow_runs, page=page, **filters)


async def read_pages(
    read: Callable[..., Awaitable[list[T]]], *, page: int = PAGE, **filters: Any
) -> list[T]:
    """Read all that a method of Prefect's client lists, page by page."""
    found: list[T] = []
    while True:
        some = await read(**filters, limit=page, offset=len(found))
        found += some
        if len(some) < page:
            return found


def filter_ended(tags: list[str], before: datetime) -> FlowRunFilter:
    """Make a filter of the runs with one of some tags that ended before a time."""
    return FlowRunFilter(
        tags=FlowRunFilterTags(any_=tags),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED)),
        end_time=FlowRunFilterEndTime.model_validate({"before_": before}),
    )


async def create_artifact(client: PrefectClient, artifact: ArtifactCreate) -> UUID:
    """Create an artifact; return its id.

    The client's own method (prefect 3.9), like the one that updates, also sends an event, which
    costs the server as much as the artifact and which nothing of ours reads.
    """
    body = artifact.model_dump(mode="json", exclude_unset=True)
    return UUID((await client.request("POST", "/artifacts/", json=body)).json()["id"])


async def update_artifact(
    client: PrefectClient, artifact_id: UUID, changes: ArtifactUpdate
) -> None:
    """Update an artifact without an event."""
    body = changes.model_dump(mode="json", exclude_unset=True)
    await client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact_id}, json=body)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a call to Prefect; repeat it while Prefect does not answer."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await call()
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error and error.response.status_code != _TOO_MANY:
                raise
        except (httpx.TransportError, TimeoutError):
            pass
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
