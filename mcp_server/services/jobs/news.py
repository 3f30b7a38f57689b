"""What happened to jobs since a cursor: changes of state and of health.

States are read from Prefect's history of each run that has changed, which has every one of them.
A cursor acknowledges the events of the answer that gave it; without one all are new.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, Field, TypeAdapter

from flows.core.errors import InvalidArgument
from flows.core.models import Value
from flows.core.names import HEALTH_EVENT
from flows.core.prefect_states import read_message
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.services import cursors

MOST_EVENTS: Final = 50
_SHORT: Final = 12
"""Digits of an id in a cursor, of 32."""
_HEALTH_SECONDS: Final = 5.0
"""How often Prefect's events of health are read."""
_LATE: Final = timedelta(seconds=60)
"""How late an event of Prefect may become readable: it writes them in batches."""
_RUN: Final = "prefect.flow-run."


class JobEvent(Value):
    """Something that happened to a job."""

    job_id: str
    name: str
    at: datetime
    kind: str = Field(description="state or health.")
    state: JobState | None = None
    text: str


class _Resource(BaseModel):
    id: str = Field(alias="prefect.resource.id")


class _HealthEvent(BaseModel):
    id: str
    occurred: datetime
    resource: _Resource
    payload: dict[str, Any]


class _HealthEvents(BaseModel):
    events: list[_HealthEvent]


_HEALTH_EVENTS: Final = TypeAdapter(_HealthEvents)


@dataclass
class Place:
    """How far the events of jobs are known, by the start of a job's id.

    Attributes:
        states: Time of the last known state, in microseconds since the epoch.
        health: Ids of the events of health that are known and could be read again.
        health_since: Time after which there are more of them, in seconds since the epoch.
        met: Jobs of which it is known that the condition was met.
    """

    states: dict[str, int] = field(default_factory=dict[str, int])
    health: set[str] = field(default_factory=set[str])
    health_since: float = 0.0
    met: set[str] = field(default_factory=set[str])

    @classmethod
    def read(cls, cursor: str | None) -> "Place":
        """Read a cursor; the beginning without one.

        Raises:
            InvalidArgument: It is no cursor of a wait.
        """
        if not cursor:
            return cls()
        try:
            states, health, since, met = cursors.decode(cursor)
            known = {str(key): int(value) for key, value in states.items()}
            return cls(known, set(map(str, health)), float(since), set(map(str, met)))
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidArgument(
                "cursor is not one that wait_for_job gave",
                "Give next_cursor of an earlier answer, or leave it out to hear everything again",
            ) from error

    def write(self) -> str:
        """Write the cursor."""
        parts = [self.states, sorted(self.health), self.health_since, sorted(self.met)]
        return cursors.encode(parts)

    def knows(self, run: FlowRun) -> bool:
        """Whether the present state of a run is known."""
        return _instant(run.state.timestamp) <= self.states.get(short_id(run.id), -1)


class NewsReader:
    """Collects the events of some jobs since a cursor.

    Args:
        gateway: Prefect's API.
        place: What is known already.
    """

    def __init__(self, gateway: PrefectGateway, place: Place) -> None:
        self._gateway = gateway
        self.place = place
        self.events: list[JobEvent] = []
        self._health_at = 0.0

    async def look(self, runs: Sequence[FlowRun]) -> None:
        """Add what happened to runs that were just read; their health is read now and then."""
        await self._add_changed_states(runs)
        if time.monotonic() >= self._health_at:
            await self._add_health(runs)
            self._health_at = time.monotonic() + _HEALTH_SECONDS

    async def _add_changed_states(self, runs: Sequence[FlowRun]) -> None:
        for run in runs:
            if self.place.knows(run) or len(self.events) >= MOST_EVENTS:
                continue
            known = self.place.states.get(short_id(run.id), -1)
            history = await self._gateway.read_states(run.id)
            self._add(run, [state for state in history if _instant(state.timestamp) > known])

    async def _add_health(self, runs: Sequence[FlowRun]) -> None:
        names = {f"{_RUN}{run.id}": run for run in runs}
        since = datetime.fromtimestamp(self.place.health_since, UTC)
        body = {
            "filter": {
                "event": {"name": [HEALTH_EVENT]},
                "resource": {"id": list(names)},
                "occurred": {"since": since.isoformat()},
                "order": "ASC",
            },
            "limit": MOST_EVENTS,
        }
        found = await self._gateway.ask("POST", "/events/filter", body, _HEALTH_EVENTS)
        for event in found.events if found else []:
            run = names.get(event.resource.id)
            if run is None or short_id(event.id) in self.place.health:
                continue
            text = str(event.payload.get("summary") or event.payload.get("health") or "")
            self._append(run, event.occurred, "health", f"{run.name}: {text}", None)
            self.place.health.add(short_id(event.id))
            latest = (event.occurred - _LATE).timestamp()
            self.place.health_since = max(self.place.health_since, latest)

    def in_order(self) -> list[JobEvent]:
        """The events, in the order in which they happened."""
        return sorted(self.events, key=lambda event: event.at)

    def _add(self, run: FlowRun, states: Sequence[RunState]) -> None:
        last: JobState | None = None
        for state in states:
            if len(self.events) >= MOST_EVENTS:
                return
            if state.job_state is not last:
                self._append(run, state.timestamp, "state", _words(run, state), state.job_state)
            last = state.job_state
            self.place.states[short_id(run.id)] = _instant(state.timestamp)

    def _append(
        self, run: FlowRun, at: datetime, kind: str, text: str, state: JobState | None
    ) -> None:
        self.events.append(
            JobEvent(job_id=run.id, name=run.name, at=at, kind=kind, state=state, text=text)
        )


def short_id(run_id: str) -> str:
    """The start of an id, for a cursor."""
    return run_id.replace("-", "")[:_SHORT]


def _words(run: FlowRun, state: RunState) -> str:
    reason, message = read_message(state.type, state.name, state.message)
    why = f": {reason}" if reason and state.job_state is not JobState.SUCCEEDED else ""
    detail = f"; {message}" if message and state.job_state.is_terminal else ""
    return " ".join(f"{run.name} is {state.job_state}{why}{detail}"[:300].split())


def _instant(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)
