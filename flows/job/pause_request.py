"""What Prefect says of the pause of a run."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import State, StateDetails, StateType

from flows.core.prefect_states import PrefectState

_KEY: Final = "oumi-flows "
"""Begins the pause key of a pause that is applied; the rest is its end, if it has one."""


class Pause(NamedTuple):
    """A pause of a run, as Prefect has it.

    Attributes:
        state_id: The id of the run's state.
        since: When the run was paused.
        until: When it goes on by itself; None: never.
        is_applied: Whether we have applied it.
    """

    state_id: UUID
    since: datetime
    until: datetime | None
    is_applied: bool

    @classmethod
    def of(cls, state: "State[Any] | None") -> "Pause | None":
        """Read the pause from a run's state; None: the run is not paused."""
        if state is None or not state.is_paused():
            return None
        key = state.state_details.pause_key or ""
        is_applied = key.startswith(_KEY)
        until = state.state_details.pause_timeout
        if is_applied and key != _KEY:
            until = datetime.fromisoformat(key.removeprefix(_KEY))
        return cls(state.id, state.timestamp, until, is_applied)

    @property
    def is_over(self) -> bool:
        """Whether the run goes on by itself now."""
        return self.until is not None and self.until <= datetime.now(UTC)

    @property
    def end(self) -> str:
        """When and how it ends, as a sentence."""
        by_itself = f"; by itself it goes on at {in_words(self.until)}" if self.until else ""
        return f"Resume it in the Prefect UI{by_itself}."

    def apply(
        self, state: PrefectState, *, message: str, reschedules: bool = False
    ) -> "State[None]":
        """Make the state that says it is applied.

        Prefect ends a run as failed when its own limit of a pause is over, and ends one that is
        suspended as cancelled although its job lives (prefect 3.9). So this state has no limit for
        Prefect, and is no suspension unless the run has no job.
        """
        until = self.until.isoformat() if self.until else ""
        details = StateDetails(pause_key=f"{_KEY}{until}", pause_reschedule=reschedules)
        return State(
            type=StateType(state.type), name=state.name, message=message, state_details=details
        )


class Wish(NamedTuple):
    """What Prefect says of the pause of a run.

    Attributes:
        pause: The run is paused; None: its job runs.
        rescheduled: The id of the state in which Prefect has scheduled the run again, as it resumes
            a suspended one; None: it has not.
    """

    pause: Pause | None = None
    rescheduled: UUID | None = None

    @classmethod
    def of(cls, state: "State[Any] | None") -> "Wish":
        """Read it from a run's state."""
        is_scheduled = state is not None and state.is_scheduled()
        return cls(Pause.of(state), state.id if state and is_scheduled else None)

    @property
    def state_id(self) -> UUID | None:
        """The id of the run's state, if that says something about a pause."""
        return self.pause.state_id if self.pause else self.rescheduled


class PauseRequest:
    """The pause of one run, as its worker last read it."""

    def __init__(self) -> None:
        self._wish = Wish()
        self._change = asyncio.Event()

    @property
    def wish(self) -> Wish:
        """What Prefect said last."""
        return self._wish

    def note(self, state: "State[Any] | None") -> None:
        """Note the state of the run; None: one that says nothing about a pause."""
        wish = Wish.of(state)
        if wish != self._wish:
            self._wish = wish
            change, self._change = self._change, asyncio.Event()
            change.set()

    async def wait_for_change(self, since: Wish) -> None:
        """Wait until Prefect says something else than `since`."""
        while self._wish == since:
            await self._change.wait()


def in_words(at: datetime | None) -> str:
    """A moment, for people."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "its end"
