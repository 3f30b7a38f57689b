"""What SkyPilot's API server says (skypilot 0.12), as values of ours."""

import json
from enum import StrEnum
from typing import Any, Final

import yaml

from flows.models import Value
from flows.ports import LauncherState

STATE_OF_SKY: Final = {
    "INIT": LauncherState.PENDING,
    "PENDING": LauncherState.PENDING,
    "SETTING_UP": LauncherState.RUNNING,
    "RUNNING": LauncherState.RUNNING,
    "SUCCEEDED": LauncherState.SUCCEEDED,
    "FAILED": LauncherState.FAILED,
    "FAILED_SETUP": LauncherState.FAILED,
    "FAILED_DRIVER": LauncherState.FAILED,
    "CANCELLED": LauncherState.CANCELLED,
}
"""SkyPilot's `JobStatus` (skypilot 0.12) and ours; a test walks every member."""


class SkyClusterState(StrEnum):
    """SkyPilot's `ClusterStatus` (skypilot 0.12); a test walks every member."""

    INIT = "INIT"
    UP = "UP"
    STOPPED = "STOPPED"
    AUTOSTOPPING = "AUTOSTOPPING"
    PENDING = "PENDING"


class SkyCluster(Value):
    """A cluster that SkyPilot knows.

    Attributes:
        cloud: As SkyPilot names it.
        autostop: Idle minutes until it stops itself; negative: it does not.
        hourly_cost: In dollars, of all nodes; None if SkyPilot knows no price.
    """

    name: str
    cloud: str
    state: SkyClusterState
    launched_at: float
    autostop: int = -1
    autostop_is_down: bool = False
    nodes: int = 1
    resources: str = ""
    hourly_cost: float | None = None


class SkyJob(Value):
    """A job in the queue of a cluster; the status is SkyPilot's `JobStatus`."""

    job_id: str
    name: str
    status: str
    started: bool = False

    @property
    def state(self) -> LauncherState:
        """Where the job is."""
        return STATE_OF_SKY[self.status]


class SkyRequest(Value):
    """Something that was asked of the API server, which remembers it for a day by default.

    Attributes:
        verb: ``launch``, ``exec``, ``stop``, ``down`` and others.
        task_name: The name of the task, of a launch or exec.
    """

    request_id: str
    verb: str
    status: str
    created_at: float
    task_name: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the API server is still at it."""
        return self.status in ("PENDING", "RUNNING", "WAITING")

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.status == "SUCCEEDED"


def cluster_of(record: Any) -> SkyCluster:
    """A cluster, of the client's record of it."""
    return SkyCluster(
        name=record.name,
        cloud=_cloud_of(record),
        state=SkyClusterState(record.status.value),
        launched_at=record.launched_at,
        autostop=record.autostop,
        autostop_is_down=record.to_down,
        nodes=record.nodes,
        resources=record.resources_str or "",
        hourly_cost=_hourly_cost(record),
    )


def _cloud_of(record: Any) -> str:
    launched = getattr(record.handle, "launched_resources", None)
    return str(launched.cloud) if launched is not None else record.cloud or ""


def _hourly_cost(record: Any) -> float | None:
    """The price of all nodes; None where SkyPilot has no price list, or cannot load it."""
    try:
        # A cloud without prices, such as Slurm, costs 0 there.
        return record.handle.get_hourly_price() or None
    except Exception:  # noqa: BLE001 - of any catalog
        return None


def request_of(item: dict[str, Any]) -> SkyRequest:
    """A request, of the server's account of it."""
    body: dict[str, Any] = json.loads(item["request_body"]) or {}
    task = body.get("task")
    return SkyRequest(
        request_id=item["request_id"],
        verb=str(item["name"]).removeprefix("sky."),
        status=item["status"],
        created_at=item["created_at"],
        task_name=_name_in(task) if isinstance(task, str) else "",
    )


def _name_in(task: str) -> str:
    """The name in a task's YAML, which may be one of several documents."""
    documents: list[Any] = [item for item in yaml.safe_load_all(task) if isinstance(item, dict)]
    return next((str(item["name"]) for item in documents if item.get("name")), "")
