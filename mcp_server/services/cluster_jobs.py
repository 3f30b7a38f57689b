"""The jobs of a local cluster, which is only its jobs: stopping it cancels them."""

from collections.abc import Sequence
from typing import Final

from flows.core import names
from flows.core.models import ClusterStatus
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import MAX_PAGE, PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.cancelling import Canceller
from mcp_server.services.jobs.job_filter import JobFilter

_NAMED: Final = 8


class ClusterJobs:
    """Our jobs on a cluster.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway
        self._canceller = Canceller(gateway)

    async def live(self, cloud: str, cluster_name: str) -> list[FlowRun]:
        """Read the jobs that have not ended, including those that wait for the cluster."""
        return await self._canceller.live(_jobs_of(cloud, cluster_name))

    async def find_uncollected(self, cloud: str, cluster_name: str) -> list[str]:
        """Name the jobs of a cluster whose results were not collected, newest first."""
        tags = (names.cloud_tag(cloud), names.cluster_tag(cluster_name))
        runs = await self._gateway.filter_runs(
            RunFilter(states=frozenset(JobState), tags=tags), limit=MAX_PAGE
        )
        return [_describe(run) for run in runs if _is_uncollected(run, cluster_name)]

    async def end(self, cloud: str, cluster_name: str) -> str:
        """Ask all of them to end; return a sentence on those that still run, or an empty one."""
        ended = await self._canceller.cancel_all(_jobs_of(cloud, cluster_name))
        return "" if ended.done else ended.summary


def name_live_jobs(cluster: ClusterStatus, ours: Sequence[FlowRun]) -> list[str]:
    """List the live jobs of a cluster, each with its state; foreign ones by their ids."""
    known = {run.labels.launcher_job_id for run in ours}
    others = [job for job in cluster.live_jobs or () if job not in known]
    return [*(f"{run.name} ({run.state.job_state})" for run in ours), *others]


def are_ending(cluster: ClusterStatus, ours: Sequence[FlowRun]) -> bool:
    """Whether every live job of a cluster was asked to end."""
    asked = [run for run in ours if run.state.job_state is JobState.CANCELLING]
    return len(asked) == len(ours) == len(name_live_jobs(cluster, ours))


def list_some(jobs: Sequence[str]) -> str:
    """List the first jobs, and the number of the others."""
    more = len(jobs) - _NAMED
    return ", ".join(jobs[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_uncollected(run: FlowRun, cluster_name: str) -> bool:
    labels = run.labels
    if labels.launched_attempt is None or labels.cluster_name != cluster_name:
        return False
    return (labels.collected_attempt or 0) < labels.launched_attempt


def _describe(run: FlowRun) -> str:
    part = f", only {run.labels.collected_part} collected" if run.labels.collected_part else ""
    return f"{run.name} ({run.state.job_state}{part})"


def _jobs_of(cloud: str, cluster_name: str) -> JobFilter:
    return JobFilter(cloud=cloud, cluster_name=cluster_name)
