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


async def find_job(gateway: PrefectGateway, reference: str) -> FlowRun:
    """Find the job with this id, unique id prefix of 8 or more characters, or unique live name.

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
    wanted = RunFilter(name_like=prefix[:_SHORT_ID])
    runs = await gateway.filter_runs(wanted, limit=_CANDIDATES)
    digits = prefix.replace("-", "")
    return [run for run in runs if UUID(run.id).hex.startswith(digits)]


async def _by_name(gateway: PrefectGateway, name: str) -> list[FlowRun]:
    if not name:
        return []
    live = await gateway.filter_runs(RunFilter(states=LIVE, name_like=name), limit=_CANDIDATES)
    matches = [run for run in live if name in (run.name, _job_name(run))]
    if matches:
        return matches
    # A run's whole name carries its short id, so it also means a job that has ended.
    ended = await gateway.filter_runs(RunFilter(states=ENDED, name_like=name), limit=_CANDIDATES)
    return [run for run in ended if run.name == name]


def _job_name(run: FlowRun) -> str:
    request = job_request(run)
    return request.job_name if request else ""
