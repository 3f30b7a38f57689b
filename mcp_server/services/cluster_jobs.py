"""The jobs of a local cluster, which is nothing but its jobs: they end as a cancelled job does."""

from collections.abc import Sequence
from typing import Final

from flows.core import names
from flows.core.models import ClusterStatus
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.cancelling import Canceller
from mcp_server.services.jobs.job_filter import JobFilter

_NAMED: Final = 8


class ClusterJobs:
    """Our jobs on a cluster.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._canceller = Canceller(gateway)

    async def live(self, cloud: str, cluster_name: str) -> list[FlowRun]:
        """Those that have not ended, the ones that wait for it included."""
        return await self._canceller.live(_jobs_of(cloud, cluster_name))

    async def end(self, cloud: str, cluster_name: str) -> str:
        """Ask all of them to end; empty once none lives, else a sentence on those that do."""
        ended = await self._canceller.cancel_all(_jobs_of(cloud, cluster_name))
        return "" if ended.done else ended.summary


def name_live_jobs(cluster: ClusterStatus, ours: Sequence[FlowRun]) -> list[str]:
    """The live jobs of a cluster, each with its state; those that are not ours by their ids."""
    known = {run.label(names.LABEL_LAUNCHER_JOB_ID) for run in ours}
    others = [job for job in cluster.live_jobs or () if job not in known]
    return [*(f"{run.name} ({run.state.job_state})" for run in ours), *others]


def are_ending(cluster: ClusterStatus, ours: Sequence[FlowRun]) -> bool:
    """Whether no job of a cluster lives that has not been asked to end."""
    asked = [run for run in ours if run.state.job_state is JobState.CANCELLING]
    return len(asked) == len(ours) == len(name_live_jobs(cluster, ours))


def list_some(jobs: Sequence[str]) -> str:
    """The first jobs, and how many more there are."""
    more = len(jobs) - _NAMED
    return ", ".join(jobs[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _jobs_of(cloud: str, cluster_name: str) -> JobFilter:
    return JobFilter(cloud=cloud, cluster_name=cluster_name)
