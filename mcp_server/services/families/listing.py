"""Pipelines and sweeps in lists: their parts, and what the end of one means for the whole."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.models import JobPart, JobStatus
from flows.core.numbers import to_number
from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import Artifact, FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import LIVE
from mcp_server.services.jobs.job_filter import addresses_of
from mcp_server.services.jobs.status import cost_of, progress_of, progress_words

_EVERY_STATE: Final = frozenset(JobState)
_SHOWN: Final = 25
_NOTE: Final = 120
_RUNNING_SHOWN: Final = 3


class Families:
    """Pipelines and sweeps, and the jobs they consist of.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway

    async def with_parts(self, status: JobStatus, run: FlowRun, *, now: datetime) -> JobStatus:
        """Add the status of each part, and the cost of all, to the status of the whole."""
        found = await self._gateway.read_artifacts([run.id], artifact_type=names.PARTS_ARTIFACT)
        rows = _rows(found[0]) if found else []
        shown = [_part(row, run) for row in rows[:_SHOWN]]
        ids = tuple(part.job_id for part in shown if part.job_id)
        # The table shows the parts as the worker last saw them.
        runs = await self._gateway.filter_runs(RunFilter(ids=ids), limit=MAX_PAGE) if ids else []
        progress = await self._progress(runs)
        states = {child.id: child.state.job_state for child in runs}
        costs = {child.id: cost_of(child, now) for child in runs}
        parts = [
            _as_seen(part, states, progress).model_copy(
                update={"cost": costs.get(part.job_id or "")}
            )
            for part in shown
        ]
        cost = (await self.costs([run], now=now)).get(run.id)
        words = [
            f"{part.name} at {progress[part.job_id]}" for part in parts if part.job_id in progress
        ]
        reached = "".join(f"; {said}" for said in words[:_RUNNING_SHOWN])
        message = f"; {status.message}" if status.state is JobState.SUCCEEDED else ""
        cut = f"; the first {_SHOWN} of {len(rows)} jobs are shown" if len(rows) > _SHOWN else ""
        return status.model_copy(
            update={
                "parts": parts,
                "cost": cost,
                "summary": f"{status.summary}{message}{reached}{cut}",
            }
        )

    async def costs(self, runs: Sequence[FlowRun], *, now: datetime) -> dict[str, float]:
        """Add up what the jobs of pipelines and sweeps cost so far, in US dollars.

        Returns:
            By id of the whole; without those whose jobs have no known price.
        """
        ids = tuple(run.id for run in runs if run.has_parts and _is_on_a_cloud(run))
        found: dict[str, float] = {}
        for child in await self._children(ids, _EVERY_STATE) if ids else ():
            cost, whole = cost_of(child, now), child.labels.part_of
            if cost is not None and whole:
                found[whole] = round(found.get(whole, 0.0) + cost, 4)
        return found

    async def _progress(self, runs: Sequence[FlowRun]) -> dict[str, str]:
        """Read how far the running jobs are, in words, by their ids."""
        running = {run.id: run for run in runs if run.state.job_state is JobState.RUNNING}
        if not running:
            return {}
        found = await self._gateway.read_artifacts(list(running), artifact_type="progress")
        words = {
            run_id: ", ".join(progress_words(progress_of(running[run_id], artifact)))
            for artifact in reversed(found)  # the last updated one of a job comes first
            if (run_id := artifact.flow_run_id) in running
        }
        return {run_id: said for run_id, said in words.items() if said}

    async def cancel_parts(self, run: FlowRun, *, force: bool) -> None:
        """Cancel the parts of a run that was cancelled while no worker had it."""
        for child in await self._children((run.id,), LIVE):
            if force:
                await self._gateway.patch_labels(child.id, RunLabels(force_cancel=True))
            await self._gateway.set_state(
                child.id,
                PREFECT_STATE[JobState.CANCELLING],
                message="Its pipeline or sweep was cancelled.",
                repeatable=True,
            )

    async def has_failed_parts(self, run: FlowRun) -> bool:
        """Whether a part can be retried."""
        failed = frozenset({JobState.FAILED, JobState.CRASHED, JobState.CANCELLED})
        children = await self._children((run.id,), failed)
        return any(not child.labels.stopped_early for child in children)

    async def _children(
        self, parents: tuple[str, ...], states: frozenset[JobState]
    ) -> list[FlowRun]:
        wanted = RunFilter(parent_ids=parents, states=states)
        found: list[FlowRun] = []
        while True:
            page = await self._gateway.filter_runs(wanted, limit=MAX_PAGE, offset=len(found))
            found += page
            if len(page) < MAX_PAGE:
                return found


def _is_on_a_cloud(run: FlowRun) -> bool:
    return any(not is_local(one.cloud) for one in addresses_of(run))


def _rows(artifact: Artifact) -> list[dict[str, Any]]:
    data = artifact.data
    return cast("list[dict[str, Any]]", json.loads(data) if isinstance(data, str) else data or [])


def _part(row: dict[str, Any], run: FlowRun) -> JobPart:
    """Make the part of a row of the table of `run`."""
    sweep = run.parameters.get("sweep")
    metric = str(cast("dict[str, Any]", sweep).get("metric")) if isinstance(sweep, dict) else ""
    own = {"step", "trial", "state", "note", "metrics", "job_id", "rank", metric}
    words = [f"{key}={value}" for key, value in row.items() if key not in own]
    words += [str(row[key]) for key in ("metrics", "note") if row.get(key)]
    return JobPart(
        name=str(row.get("step") or row.get("trial") or ""),
        state=str(row.get("state")),
        value=to_number(row.get(metric)) if metric else None,
        note=", ".join(words)[:_NOTE],
        job_id=row.get("job_id") or None,
    )


def _as_seen(part: JobPart, states: Mapping[str, JobState], progress: Mapping[str, str]) -> JobPart:
    state = states.get(part.job_id or "")
    # A trial that a sweep stopped early is cancelled, with a word of its own.
    known = part.state == "stopped" and state is JobState.CANCELLED
    if state is None or known:
        return part
    note = ", ".join(filter(None, [progress.get(part.job_id or ""), part.note]))[:_NOTE]
    return part.model_copy(update={"state": state.value, "note": note})
