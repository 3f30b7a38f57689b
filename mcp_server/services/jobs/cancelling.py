"""Cancels one job, or every job that matches a filter."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import anyio
from pydantic import Field

from flows.core import names
from flows.core.errors import Conflict, JobAlreadyDone, OumiFlowsError
from flows.core.models import Value
from flows.core.prefect_states import PREFECT_STATE, RESUMING, SUSPENDED
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.families.listing import Families
from mcp_server.services.jobs.external import ExternalJobs, adopted_job
from mcp_server.services.jobs.finding import LIVE
from mcp_server.services.jobs.job_filter import JobFilter, is_to_come

WAIT_SECONDS: Final = 1.2
"""How long a cancel waits to see the end, so that it answers within two seconds."""

_ASK_SECONDS: Final = 20.0
"""Limit of asking many jobs to end; clients wait about a minute for a call."""
_AT_ONCE: Final = 8
_MOST: Final = 10_000
_SHOWN: Final = 30
_NAMED: Final = 5
_POLL_SECONDS: Final = 0.2
_LONGEST: Final = 200
_WAITING: Final = frozenset(
    {JobState.SCHEDULED, JobState.QUEUED, JobState.PENDING, JobState.RETRYING}
)
"""States of jobs that would take the slot of a job cancelled before them."""


_WITHOUT_JOB_FOR_PREFECT: Final = frozenset({SUSPENDED, RESUMING})
"""States from which Prefect goes to Cancelled at once (prefect 3.9), although a job that has begun
lives on until its worker has read that."""


class CancelRow(Value):
    """A job that was asked to end, or would be in a preview."""

    job_id: str
    name: str
    state: JobState
    part_of: str | None = Field(default=None, description="The pipeline or sweep that ends it.")
    error: str = Field(default="", description="Why it could not be asked to end.")


class CancelledJobs(Value):
    """Every job that matches a filter, and its outcome."""

    summary: str = Field(description="One line a person can read.")
    done: bool = Field(
        description="Every job has ended. False: a preview, or some are still ending."
    )
    matched: int
    failed: int = Field(default=0, description="Number of jobs that could not be asked.")
    jobs: list[CancelRow] = Field(description="The first jobs, failures first.")


class Canceller:
    """Asks jobs to end.

    Args:
        gateway: Prefect's API.
        monotonic: The clock that limits how long many jobs are asked.
    """

    def __init__(
        self, gateway: PrefectGateway, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._gateway = gateway
        self._external = ExternalJobs(gateway)
        self._families = Families(gateway)
        self._monotonic = monotonic

    async def request(self, run: FlowRun, *, force: bool) -> JobState:
        """Ask a job of ours to end; return its state after that.

        Args:
            run: The job.
            force: Kill the job instead of giving it time to stop.

        Raises:
            JobAlreadyDone: The job has ended.
            Conflict: Prefect refused the request.
        """
        _refuse_ended(run.name, run.state.job_state)
        adopted = adopted_job(run)
        if adopted is not None and run.run_count == 0:
            # Prefect sets a run that no worker executes to cancelled at once; its job may run.
            await self._external.cancel(adopted, force=force)
        if force:
            await self._gateway.patch_labels(run.id, RunLabels(force_cancel=True))
        if run.state.job_state is JobState.CANCELLING:
            return JobState.CANCELLING
        if run.run_count and (run.state.type, run.state.name) in _WITHOUT_JOB_FOR_PREFECT:
            await self._gateway.set_state(
                run.id,
                PREFECT_STATE[JobState.RUNNING],
                message="It is about to be cancelled.",
                repeatable=True,
                force=True,
            )
        after = await self._gateway.set_state(
            run.id,
            PREFECT_STATE[JobState.CANCELLING],
            message="Cancellation was requested.",
            repeatable=True,
        )
        if after.job_state not in (JobState.CANCELLING, JobState.CANCELLED):
            _refuse_ended(run.name, after.job_state)
            raise Conflict(
                f"{run.name} is {after.job_state} and Prefect refused the cancellation",
                "Check it with get_job_status and cancel it again",
            )
        if run.has_parts and after.job_state is JobState.CANCELLED:
            await self._families.cancel_parts(run, force=force)
        return after.job_state

    async def live(self, wanted: JobFilter) -> list[FlowRun]:
        """Read the live jobs that match a filter, oldest first.

        Leave out planned runs of schedules: pausing or deleting the schedule ends those.
        """
        states = wanted.states & LIVE
        found: dict[str, FlowRun] = {}
        for tags in _tag_filters(wanted) if states else ():
            asked = RunFilter(
                states=states, tags=tags, name_like=wanted.name or None, after=wanted.after
            )
            for offset in range(0, _MOST, MAX_PAGE):
                page = await self._gateway.filter_runs(
                    asked, limit=MAX_PAGE, offset=offset, oldest_first=True
                )
                found |= {run.id: run for run in page}
                if len(page) < MAX_PAGE:
                    break
        return [run for run in found.values() if wanted.takes(run) and not is_to_come(run)]

    async def preview(self, wanted: JobFilter) -> CancelledJobs:
        """List what `cancel_all` would end; change nothing."""
        runs = await self.live(wanted)
        rows = _rows(runs)
        none = f"No live job{wanted.words}; nothing was changed."
        return CancelledJobs(
            summary=f"{_count(rows)}{wanted.words} would be cancelled: {_names_of(rows)}. "
            "Nothing was changed."
            if rows
            else none,
            done=not rows,
            matched=len(rows),
            jobs=rows[:_SHOWN],
        )

    async def cancel_all(self, wanted: JobFilter, *, force: bool = False) -> CancelledJobs:
        """Ask every job that matches a filter to end; report the failure of each.

        A pipeline or sweep ends its own parts. Waiting jobs are asked first, so that none of
        them starts meanwhile.

        Raises:
            OumiFlowsError: No job could be asked.
        """
        runs = await self.live(wanted)
        heads = _heads(runs)
        errors = await self._request_all(heads, force=force)
        if errors and len(errors) == len(heads):
            raise next(iter(errors.values()))
        states = await self._states(runs, until=self._monotonic() + WAIT_SECONDS)
        rows = [
            row.model_copy(
                update={
                    "state": states.get(row.job_id, row.state),
                    "error": str(errors.get(row.job_id, ""))[:_LONGEST],
                }
            )
            for row in _rows(runs)
        ]
        rows.sort(key=lambda row: not row.error)
        return CancelledJobs(
            summary=_outcome(rows, wanted),
            done=all(row.state.is_terminal for row in rows),
            matched=len(rows),
            failed=len(errors),
            jobs=rows[:_SHOWN],
        )

    async def _request_all(
        self, runs: Sequence[FlowRun], *, force: bool
    ) -> dict[str, OumiFlowsError]:
        """Ask jobs to end, several at a time; return the failures by id."""
        late = Conflict("the time was up before it was asked", "Call again")
        errors: dict[str, OumiFlowsError] = {}
        deadline = self._monotonic() + _ASK_SECONDS
        queue = iter(sorted(runs, key=_order))

        async def ask() -> None:
            for run in queue:
                if self._monotonic() > deadline:
                    errors[run.id] = late
                    continue
                try:
                    await self.request(run, force=force)
                except JobAlreadyDone:
                    continue
                except OumiFlowsError as error:
                    errors[run.id] = error

        async with anyio.create_task_group() as tasks:
            for _ in range(_AT_ONCE):
                tasks.start_soon(ask)
        return errors

    async def _states(self, runs: Sequence[FlowRun], *, until: float) -> dict[str, JobState]:
        """Read the states of jobs once all have ended or the time is up."""
        ids = [run.id for run in runs]
        while True:
            states: dict[str, JobState] = {}
            for start in range(0, len(ids), MAX_PAGE):
                asked = RunFilter(ids=tuple(ids[start : start + MAX_PAGE]))
                page = await self._gateway.filter_runs(asked, limit=MAX_PAGE)
                states |= {run.id: run.state.job_state for run in page}
            if all(state.is_terminal for state in states.values()) or self._monotonic() > until:
                return states
            await anyio.sleep(_POLL_SECONDS)


def _tag_filters(wanted: JobFilter) -> list[tuple[str, ...]]:
    """Tags for Prefect's filter; pipelines have no tag of a cloud."""
    if not wanted.cloud:
        return [wanted.tags]
    tag = (wanted.tag,) if wanted.tag else ()
    families = (names.PIPELINE_COMMAND, names.SWEEP_COMMAND)
    return [wanted.tags, *((f"{names.COMMAND_TAG}{one}", *tag) for one in families)]


def _heads(runs: Sequence[FlowRun]) -> list[FlowRun]:
    """Choose the jobs to ask: a part of another one ends with it."""
    ids = {run.id for run in runs}
    return [run for run in runs if run.labels.part_of not in ids]


def _order(run: FlowRun) -> int:
    return 0 if run.has_parts else 1 if run.state.job_state in _WAITING else 2


def _rows(runs: Sequence[FlowRun]) -> list[CancelRow]:
    ids = {run.id for run in runs}
    return [
        CancelRow(
            job_id=run.id,
            name=run.name,
            state=run.state.job_state,
            part_of=whole if (whole := run.labels.part_of) in ids else None,
        )
        for run in runs
    ]


def _count(rows: Sequence[CancelRow]) -> str:
    return f"{len(rows)} job{'s' * (len(rows) != 1)}"


def _names_of(rows: Sequence[CancelRow]) -> str:
    shown = ", ".join(f"{row.name} ({row.state})" for row in rows[:_NAMED])
    more = len(rows) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown


def _outcome(rows: Sequence[CancelRow], wanted: JobFilter) -> str:
    """Summarise the outcome of the jobs of a filter in one line."""
    if not rows:
        return f"No live job{wanted.words}; nothing was changed."
    failed = [row for row in rows if row.error]
    counts = Counter(row.state for row in rows if not row.error)
    parts = [f"{count} {state}" for state, count in counts.most_common()]
    said = f"{_count(rows)}{wanted.words}: {', '.join(parts)}" if parts else _count(rows)
    if failed:
        said += f"; {len(failed)} could not be asked to end: {_names_of(failed)}"
    if any(not state.is_terminal for state in counts):
        said += ". See list_jobs with status cancelling for those that still end"
    return f"{said}."


def _refuse_ended(name: str, state: JobState) -> None:
    if state.is_terminal:
        raise JobAlreadyDone(f"{name} has ended, it is {state}", "There is nothing to cancel")
