"""Finds schedules and describes them."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, cast
from uuid import UUID

from pydantic import ValidationError

from flows.core import names
from flows.core.errors import AmbiguousId, JobNotFound
from flows.core.models import JobRequest, Overlap
from flows.core.prefect_states import read_message
from mcp_server.prefect_api.models import Deployment, FlowRun
from mcp_server.prefect_api.schedules import NOT_STARTED, ScheduleGateway
from mcp_server.services.jobs.status import job_name
from mcp_server.services.jobs.submitting import shorten
from mcp_server.services.schedules.values import LastRun, Schedule, ScheduleState, When

NEXT_RUNS: Final = 5
"""How many of the next times an answer has."""

_SHORT_ID: Final = 8


class ScheduleReader:
    """Reads schedules and their runs.

    Args:
        gateway: Prefect's API, for schedules.
        now: The clock.
    """

    def __init__(self, gateway: ScheduleGateway, now: Callable[[], datetime]) -> None:
        self._gateway = gateway
        self._now = now

    async def find(self, reference: str) -> Deployment:
        """Find the schedule with this id, unique id prefix or unique name.

        Raises:
            JobNotFound: No schedule matches.
            AmbiguousId: Several schedules match.
        """
        reference = reference.strip()
        if exact := _as_uuid(reference):
            found = await self._gateway.by_id(exact)
            matches = [found] if found and names.SCHEDULE_TAG in found.tags else []
            matches = matches or [one for one in await self._gateway.guests() if one.id == exact]
        else:
            every = await self._gateway.schedules()
            matches = [one for one in every if reference in (schedule_name(one), one.name)]
            if len(reference) >= _SHORT_ID:
                matches = matches or [one for one in every if one.id.startswith(reference)]
        if len(matches) > 1:
            listed = ", ".join(f"{one.id} ({one.name})" for one in matches[:5])
            raise AmbiguousId(f"{reference!r} is {len(matches)} schedules: {listed}", "Use an id")
        if not matches:
            raise JobNotFound(
                f"No schedule has the id or name {reference!r}",
                "List the schedules with list_schedules",
            )
        return matches[0]

    async def row(self, deployment: Deployment) -> Schedule:
        """Describe the current state of a schedule."""
        due = {"expected_start_time": {"before_": self._now().isoformat()}}
        last = await self._gateway.runs(deployment, due, newest_first=True, limit=1)
        next_runs = await self.next_runs(deployment)
        command, path, cloud = _what(deployment)
        return Schedule(
            schedule_id=deployment.id,
            name=schedule_name(deployment),
            state=_state(deployment, next_runs, last),
            when=When.of_deployment(deployment).words,
            overlap=deployment.labels.overlap or Overlap.ALLOW,
            command=command,
            config_path=shorten(path, limit=200),
            cloud=cloud,
            next_runs=next_runs,
            last_run=_last_run(last[0]) if last else None,
        )

    async def next_runs(self, deployment: Deployment) -> list[datetime]:
        """Read the next times from the runs that Prefect has planned."""
        if deployment.paused:
            return []
        now = self._now()
        ahead = {**NOT_STARTED, "expected_start_time": {"after_": now.isoformat()}}
        read = partial(self._gateway.runs, deployment, ahead, newest_first=False, limit=NEXT_RUNS)
        runs = await read()
        if len(runs) < NEXT_RUNS and any(entry.active for entry in deployment.schedules):
            await self._gateway.plan_runs(deployment, now=now, count=NEXT_RUNS)
            runs = await read()
        return [run.expected_start_time for run in runs]


def schedule_name(deployment: Deployment) -> str:
    """Return the name of a schedule for people."""
    return deployment.labels.schedule or deployment.name


def _what(deployment: Deployment) -> tuple[str, str, str]:
    """Read command, config and cloud of the job of a schedule."""
    pipeline: object = deployment.parameters.get("pipeline")
    if isinstance(pipeline, dict):
        path = str(cast("dict[str, object]", pipeline).get("path"))
        return names.PIPELINE_COMMAND, path, ""
    try:
        request = JobRequest.model_validate(deployment.parameters.get("request"))
    except ValidationError:
        return "", "", ""
    return request.command, request.config_path, request.cloud


def _state(deployment: Deployment, next_runs: list[datetime], last: list[FlowRun]) -> ScheduleState:
    if deployment.paused:
        return ScheduleState.PAUSED
    if deployment.schedules:
        active = any(entry.active for entry in deployment.schedules)
        return ScheduleState.ACTIVE if active else ScheduleState.PAUSED
    waits = bool(last) and not last[0].state.job_state.is_terminal
    return ScheduleState.ACTIVE if next_runs or waits else ScheduleState.ENDED


def _last_run(run: FlowRun) -> LastRun:
    reason, _ = read_message(run.state.type, run.state.name, run.state.message)
    return LastRun(
        job_id=run.id,
        name=job_name(run, None),
        state=run.state.job_state,
        termination_reason=reason,
        scheduled_at=run.expected_start_time,
    )


def _as_uuid(reference: str) -> str | None:
    try:
        return str(UUID(reference)) if len(reference) in (32, 36) else None
    except ValueError:
        return None
