"""Finds our job by a launcher's own id. Each cluster counts its own jobs: ids repeat."""

from typing import Final

from flows.core import names
from flows.core.errors import AmbiguousId
from flows.core.models import JobHandle
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.finding import LIVE

_PAGES: Final = 3
"""Limit of pages that one search reads, of 200 runs each."""
_NAMED: Final = 5


async def find_launched(gateway: PrefectGateway, job: JobHandle) -> FlowRun | None:
    """Find our job of a launcher's id, the last one if its cluster had several; None: no job.

    Raises:
        AmbiguousId: No cluster is given, and more than one had a job of this id.
    """
    found: dict[str, FlowRun] = {}
    for wanted in _questions(job):
        for run in await _read(gateway, wanted, job):
            cluster = run.labels.cluster_name or ""
            known = found.setdefault(cluster, run)
            if run.expected_start_time > known.expected_start_time:
                found[cluster] = run
        if len(found) > 1 or (found and job.cluster_name):
            break
    if len(found) > 1:
        shown = [
            f"{cluster} (job {run.id}, {run.state.job_state})"
            for cluster, run in list(found.items())[:_NAMED]
        ]
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise AmbiguousId(
            f"{job.launcher_job_id!r} is a job on {len(found)} clusters of {job.cloud}: "
            f"{', '.join(shown)}{more}",
            "Give cluster_name too, or the job_id",
        )
    return next(iter(found.values()), None)


def _questions(job: JobHandle) -> list[RunFilter]:
    """Filters for Prefect, which finds tags but no values of labels (prefect 3.9).

    Jobs that an earlier version launched have no tags of their handle: search the live ones and
    the last ones.
    """
    cloud = names.cloud_tag(job.cloud)
    cluster = (names.cluster_tag(job.cluster_name),) if job.cluster_name else ()
    return [
        RunFilter(tags=(cloud, names.launcher_tag(job.launcher_job_id), *cluster)),
        RunFilter(tags=(cloud,), states=LIVE),
        RunFilter(tags=(cloud,)),
    ]


async def _read(gateway: PrefectGateway, wanted: RunFilter, job: JobHandle) -> list[FlowRun]:
    found: list[FlowRun] = []
    for page_number in range(_PAGES):
        page = await gateway.filter_runs(wanted, limit=MAX_PAGE, offset=page_number * MAX_PAGE)
        found += [run for run in page if _is_meant(run, job)]
        clusters = {run.labels.cluster_name for run in found}
        if len(page) < MAX_PAGE or len(clusters) > 1 or (found and job.cluster_name):
            break
    return found


def _is_meant(run: FlowRun, job: JobHandle) -> bool:
    is_there = job.cluster_name in ("", run.labels.cluster_name)
    return is_there and run.labels.launcher_job_id == job.launcher_job_id
