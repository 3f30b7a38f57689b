"""Finds a job by a reference."""

import re
from typing import Final
from uuid import UUID

from flows.core import names
from flows.core.errors import AmbiguousId
from flows.core.states import JobState
from mcp_server.prefect_api.answers import job_not_found
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.status import job_request

LIVE: Final = frozenset(state for state in JobState if not state.is_terminal)
ENDED: Final = frozenset(JobState) - LIVE

_PREFIX = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,27}")
_SHORT_ID = 8
_CANDIDATES = 200
_PLANNED = 2000
"""How many planned runs are looked at."""


async def find_job(gateway: PrefectGateway, reference: str) -> FlowRun:
    """Find the job with this id, unique id prefix of 8 or more characters, or name.

    A name means the live job of that name, else the newest that has ended.

    Raises:
        JobNotFound: No job matches.
        AmbiguousId: Several jobs match.
    """
    reference = reference.strip()
    if run_id := _as_uuid(reference):
        run = await gateway.read_run(run_id)
        if not _is_job(run):
            raise job_not_found(reference)
        return run
    matches = await _by_prefix(gateway, reference.lower())
    matches = matches or await _by_name(gateway, reference)
    if not matches:
        raise job_not_found(reference)
    if len(matches) > 1:
        found = ", ".join(f"{run.id} ({run.name}, {run.state.job_state})" for run in matches[:5])
        raise AmbiguousId(
            f"{reference!r} is {len(matches)} jobs: {found}", "Give more characters of the id"
        )
    return matches[0]


def _as_uuid(reference: str) -> str | None:
    try:
        return str(UUID(reference)) if len(reference) in (32, 36) else None
    except ValueError:
        return None


def _is_job(run: FlowRun) -> bool:
    """Whether a run is a job, not a run of another flow on a shared server."""
    return names.TAG in run.tags or job_request(run) is not None


async def _by_prefix(gateway: PrefectGateway, prefix: str) -> list[FlowRun]:
    if not _PREFIX.fullmatch(prefix):
        return []
    # Prefect has no search by id prefix; the name of a job's run ends with its short id.
    runs = await gateway.filter_runs(RunFilter(name_like=prefix[:_SHORT_ID]), limit=_CANDIDATES)
    digits = prefix.replace("-", "")
    matches = [run for run in runs if UUID(run.id).hex.startswith(digits)]
    return matches or await _planned(gateway, digits)


async def _planned(gateway: PrefectGateway, digits: str) -> list[FlowRun]:
    """Find planned runs of schedules, which a worker names only when they start."""
    wanted = RunFilter(states=frozenset({JobState.SCHEDULED}), tags=(names.PLANNED_TAG,))
    matches: list[FlowRun] = []
    for offset in range(0, _PLANNED, _CANDIDATES):
        page = await gateway.filter_runs(
            wanted, limit=_CANDIDATES, offset=offset, oldest_first=True
        )
        matches += [run for run in page if UUID(run.id).hex.startswith(digits)]
        if len(page) < _CANDIDATES:
            break
    return matches


async def _by_name(gateway: PrefectGateway, name: str) -> list[FlowRun]:
    if not name:
        return []
    live = await gateway.filter_runs(RunFilter(states=LIVE, name_like=name), limit=_CANDIDATES)
    matches = [run for run in live if name in (run.name, _job_name(run))]
    if matches:
        return matches
    ended = await gateway.filter_runs(RunFilter(states=ENDED, name_like=name), limit=_CANDIDATES)
    return [run for run in ended if name in (run.name, _job_name(run))][:1]


def say_which(reference: str, run: FlowRun) -> str:
    """Say which job was meant by a name that several may have had; empty where it is plain."""
    asked = reference.strip()
    is_id = UUID(run.id).hex.startswith(asked.lower().replace("-", ""))
    if is_id or asked == run.name or run.state.job_state in LIVE:
        return ""
    return f"; the newest job named {asked}, {run.id}"


def _job_name(run: FlowRun) -> str:
    request = job_request(run)
    return request.job_name if request else ""
