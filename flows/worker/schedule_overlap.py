"""Holds back the run of a schedule while an earlier run of the schedule has not ended."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.core.models import Overlap
from flows.core.prefect_states import TERMINAL_TYPES
from flows.core.run_labels import RunLabels
from flows.core.states import TerminationReason
from flows.job.outcome import Outcome
from flows.job.run_record import RunRecord
from flows.job.run_request import known_name

LONGEST_QUEUE: Final = 20
"""Runs of one schedule that wait for each other. A worker sees the first 200 due runs of its pool
(prefect 3.9): a schedule that fires faster than its runs end would hide all other jobs from it."""

_UNFINISHED = [kind for kind in StateType if kind.value not in TERMINAL_TYPES]
_ASKED_FOR = "AwaitingRetry"


class Held(NamedTuple):
    """A run that must not start now, and why; `for_good`: it never starts."""

    run: FlowRun
    why: str
    for_good: bool


class Overlaps:
    """Holds back a run while an earlier one of its schedule has not ended.

    The order of two runs never changes, and a run that ended stays ended. So the runs of a schedule
    start one after the other with any number of workers, even if some of them die. Prefect's own
    concurrency limit of a deployment is a lease: it ends with the worker, while the job keeps
    running (prefect 3.8).

    Args:
        client: The client of the worker.
        longest: The most runs of one schedule that wait for each other.
    """

    def __init__(self, client: PrefectClient, *, longest: int = LONGEST_QUEUE) -> None:
        self._client = client
        self._longest = longest

    async def find_held(self, due: Sequence[FlowRun], *, active: Iterable[FlowRun]) -> list[Held]:
        """Find the due runs that must not start now.

        Args:
            due: Runs whose start time has come and that have not started.
            active: Runs that this worker executes.
        """
        executed = list(active)
        waiting: Counter[object] = Counter()
        found: list[Held] = []
        for run in sorted(due, key=_order):
            policy = _policy(run)
            if policy is Overlap.ALLOW:
                continue
            first = _first(run, executed) or await self._first_unfinished(run)
            if first is None or _order(first) >= _order(run):
                continue
            waiting[run.deployment_id] += 1
            why = f"{known_name(first)} had not ended."
            too_many = waiting[run.deployment_id] > self._longest
            if too_many:
                why += f" {self._longest} runs waited for it already."
            found.append(Held(run, why, for_good=policy is Overlap.SKIP or too_many))
        return found

    async def skip(self, held: Held) -> None:
        """End a run that never starts."""
        await self._client.update_flow_run(held.run.id, name=known_name(held.run))
        record = RunRecord(held.run, self._client)
        await record.conclude(Outcome(TerminationReason.SKIPPED, held.why))

    async def _first_unfinished(self, run: FlowRun) -> FlowRun | None:
        if run.deployment_id is None:
            return None
        found = await self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED)),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=1,
        )
        return found[0] if found else None


def _policy(run: FlowRun) -> Overlap:
    """The policy of the run's schedule; a retry that was requested always starts."""
    if run.state_name == _ASKED_FOR:
        return Overlap.ALLOW
    return RunLabels.read(run.labels).overlap or Overlap.ALLOW


def _first(run: FlowRun, executed: list[FlowRun]) -> FlowRun | None:
    """An earlier run of the same schedule among those that this worker executes."""
    earlier = [
        other
        for other in executed
        if other.deployment_id == run.deployment_id and _order(other) < _order(run)
    ]
    return min(earlier, key=_order, default=None)


def _order(run: FlowRun) -> tuple[float, str]:
    at = run.expected_start_time
    return (at.timestamp() if at else 0.0, str(run.id))
