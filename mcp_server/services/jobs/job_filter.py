"""The filter of jobs, for lists and for cancelling many."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from flows.core import names
from flows.core.configs.clouds import is_local
from flows.core.prefect_states import PREFECT_STATE
from flows.core.states import JobState
from mcp_server.prefect_api.models import FlowRun
from mcp_server.services.jobs.finding import ENDED, LIVE
from mcp_server.services.jobs.status import job_request

_STATES_OF: Final = {"all": frozenset(JobState), "running": LIVE, "completed": ENDED}


class ClusterAddress(NamedTuple):
    """The cluster that a job runs on or will run on."""

    cloud: str
    cluster_name: str


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """A filter of jobs. Unset fields do not restrict.

    Attributes:
        status: `all`, `running` (every job that has not ended), `completed` (every one that has),
            or a job state other than running.
        cloud: Only jobs on this cloud.
        name: Only jobs whose name contains this; case does not matter.
        cluster_name: Only jobs on this cluster.
    """

    status: str = "all"
    cloud: str = ""
    name: str = ""
    cluster_name: str = ""

    @property
    def states(self) -> frozenset[JobState]:
        """The states of matching jobs."""
        return _STATES_OF.get(self.status) or frozenset({JobState(self.status)})

    @property
    def words(self) -> str:
        """The filter as words after "jobs": ` on gcp named 'x'`; empty: all."""
        where = "/".join(filter(None, (self.cloud, self.cluster_name)))
        parts = (
            f"in state {self.status}" if self.status not in _STATES_OF else "",
            f"on {where}" if where else "",
            f"named {self.name!r}" if self.name else "",
        )
        return "".join(f" {part}" for part in parts if part)

    def has_name_of(self, run: FlowRun) -> bool:
        """Whether a run has the name; Prefect's own filter reads `_` and `%` as wildcards."""
        return self.name.lower() in run.name.lower()

    def takes(self, run: FlowRun) -> bool:
        """Whether a job matches. A pipeline or a sweep is where all its jobs are."""
        addresses = addresses_of(run)
        return (
            run.state.job_state in self.states
            and self.has_name_of(run)
            and all(self.cloud in ("", one.cloud) for one in addresses)
            and all(self.cluster_name in ("", one.cluster_name) for one in addresses)
            and bool(addresses or not (self.cloud or self.cluster_name))
        )


def addresses_of(run: FlowRun) -> set[ClusterAddress]:
    """Read where a job runs, or every job of a pipeline or a sweep."""
    if own := job_request(run):
        return {_address(own.cloud, run.labels.cluster_name or own.cluster_name)}
    asked = _requests(run)
    return {_address(one.get("cloud") or "", one.get("cluster_name") or "") for one in asked}


def is_to_come(run: FlowRun) -> bool:
    """Whether a run is one that a schedule has planned and that is not due yet."""
    scheduled = PREFECT_STATE[JobState.SCHEDULED]
    return run.auto_scheduled and (run.state.type, run.state.name) == scheduled


def _address(cloud: str, cluster_name: str) -> ClusterAddress:
    cloud = cloud or names.LOCAL_CLOUD
    default = names.LOCAL_CLUSTER if is_local(cloud) else ""
    return ClusterAddress(cloud, cluster_name or default)


def _requests(run: FlowRun) -> list[dict[str, Any]]:
    """Read the requests of the jobs of a pipeline or a sweep."""
    pipeline, sweep = run.parameters.get("pipeline"), run.parameters.get("sweep")
    parts: list[Any] = [sweep] if isinstance(sweep, dict) else []
    if isinstance(pipeline, dict):
        parts += cast("dict[str, Any]", pipeline).get("parts") or []
    return [part["request"] for part in parts if isinstance(part.get("request"), dict)]
