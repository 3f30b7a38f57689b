"""When to stop waiting for a job whose cluster does not answer, and what to report then."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from flows.core.configs.clouds import LOOK_THERE, find_kind, kind_of
from flows.core.errors import ClusterUnreachable, StillLaunching
from flows.core.models import JobHandle
from flows.core.settings import Settings
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome
from flows.job.runtime import CancelRequest

T = TypeVar("T")

_FACTOR: Final = 4.0
"""Factor on the limit of a forced cancel where the cluster answers but the job ends slowly:
SkyPilot cancels no job that it is still submitting (skypilot 0.12), and a launch cannot be
cancelled."""

CLUSTER_IS_GONE: Final = frozenset({TerminationReason.PREEMPTED, TerminationReason.LOST})
"""Ends of a job after which its cluster no longer exists, or is not known to."""


class Patience:
    """How long one run keeps asking a cluster that does not answer.

    Args:
        cancel: The cancel request of the run.
        settings: The limits.
        cloud: The cloud of its job.
        cluster: The cluster of its job.
        job: The job's name there, as the start of a sentence.
    """

    def __init__(
        self, cancel: CancelRequest, settings: Settings, *, cloud: str, cluster: str, job: str
    ) -> None:
        self._cancel = cancel
        self._settings = settings
        self._cloud = cloud
        self._cluster = cluster
        self._job = job
        self._silent_since: float | None = None

    def note_answer(self) -> None:
        """Note that the cluster answered; the silence is over."""
        self._silent_since = None

    def silent_for(self) -> float:
        """Seconds since the cluster first did not answer, counted from the first such call."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        return now - self._silent_since

    async def ask(self, call: Awaitable[T]) -> T:
        """Return the cluster's answer; a forced cancel waits for it no longer than its limit.

        Raises:
            ClusterUnreachable: There was no answer in that time.
        """
        limit = self._settings.force_timeout_seconds
        asking = asyncio.ensure_future(call)
        forced = asyncio.ensure_future(self._cancel.wait_until_forced())
        try:
            await asyncio.wait({asking, forced}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await asyncio.wait({asking}, timeout=limit)
            if asking.done():
                return asking.result()
        finally:
            asking.cancel()
            forced.cancel()
        raise ClusterUnreachable(f"{self._where} did not answer within {limit:g} s", "Ask again")

    async def await_launch(self, launching: asyncio.Future[JobHandle], *, seconds: float) -> None:
        """Wait for a launch for `seconds`, and less once its cancel is forced."""
        forced = asyncio.ensure_future(self._cancel.wait_until_forced())
        try:
            await asyncio.wait(
                {launching, forced}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if self._cancel.is_forced:
                limit = self._settings.force_timeout_seconds * _FACTOR
                await asyncio.wait([launching], timeout=limit)
        finally:
            forced.cancel()

    def outcome(self, error: ClusterUnreachable) -> Outcome | None:
        """The outcome after so much silence; None: ask the cluster again."""
        answers = isinstance(error, StillLaunching)
        if self.is_over(answers=answers):
            return self.leave_behind(error.what)
        return self.outcome_if_lost(error.what)

    def outcome_if_lost(self, why: str) -> Outcome | None:
        """The outcome of a job whose cluster has been silent too long; None: it has not been."""
        if self.silent_for() < self._settings.unreachable_timeout_seconds:
            return None
        return Outcome(TerminationReason.LOST, f"Not reachable for too long: {why}")

    def is_over(self, *, answers: bool) -> bool:
        """Whether a forced cancel has waited for long enough.

        Args:
            answers: Whether the cluster answers, but does not end the job.
        """
        limit = self._settings.force_timeout_seconds
        return self._cancel.forced_for(limit * _FACTOR if answers else limit)

    def is_worn_out(self) -> bool:
        """Whether the silence itself has lasted as long as a forced cancel waits."""
        return self.silent_for() >= self._settings.force_timeout_seconds

    def leave_behind(self, why: str) -> Outcome:
        """The outcome of a job that was cancelled by force and may still run."""
        return Outcome(
            TerminationReason.USER_CANCELLED,
            f"Cancelled by force, and its end is not confirmed: {why.rstrip('. ')}. {self._job} "
            f"may still run on {self._where}. {_where_to_look(self._cloud, self._cluster)}",
        )

    @property
    def _where(self) -> str:
        return "/".join(filter(None, (self._cloud, self._cluster)))


def with_cost(outcome: Outcome, handle: JobHandle, *, is_own: bool) -> Outcome:
    """The outcome, with a warning about the cluster that stays up.

    Args:
        outcome: How the job ended.
        handle: Its handle.
        is_own: Whether its cluster was created for it alone.
    """
    if outcome.reason in CLUSTER_IS_GONE or not (is_own and kind_of(handle.cloud).keeps_clusters):
        return outcome
    return Outcome(
        outcome.reason,
        f"{outcome.text.rstrip('. ')}. Its own cluster {handle.cluster_name} on "
        f"{handle.cloud} is still up and may be billed: down_cluster ends it.",
    )


def _where_to_look(cloud: str, cluster: str) -> str:
    kind = find_kind(cloud)
    return kind.where_to_look.format(cluster=cluster) if kind else LOOK_THERE
