"""The answers of SkyPilot's API server (skypilot 0.12), as frozen values."""

import json
import logging
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from typing import Any, Final

import yaml

from flows.core.foreign_errors import note_defects
from flows.core.models import Value
from flows.launcher.port import LauncherState

_logger = logging.getLogger("prefect.oumi.launcher")

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


LAUNCH_KEY: Final = re.compile(r"oumi-[0-9a-f]{32}-\d+")
"""The name of a job that oumi-flows launched."""


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
        """The job's state."""
        return STATE_OF_SKY[self.status]

    @property
    def is_being_submitted(self) -> bool:
        """Whether it has only an id so far; SkyPilot cannot cancel such a job."""
        return self.status == "INIT"

    @property
    def was_never_submitted(self) -> bool:
        """Whether its submission died half way (skypilot 0.12, sky/skylet/job_lib.py)."""
        return self.status == "FAILED_DRIVER" and not self.started


def first_of(jobs: Iterable[SkyJob], name: str) -> SkyJob | None:
    """Find the job that counts for a launch key: the earliest that was submitted."""
    named = [job for job in jobs if job.name == name]
    submitted = [job for job in named if not job.was_never_submitted]
    return min(submitted or named, key=lambda job: int(job.job_id), default=None)


def doubles(jobs: Iterable[SkyJob]) -> list[SkyJob]:
    """List the live jobs of launch keys besides those that count; none while that is undecided.

    A launch that the API server has forgotten can add one at any later moment.
    """
    listed = list(jobs)
    first = {
        job.name: first_of(listed, job.name) for job in listed if LAUNCH_KEY.fullmatch(job.name)
    }
    return [
        job
        for job in listed
        if (counts := first.get(job.name)) is not None
        and job != counts
        and not counts.is_being_submitted
        and not job.is_being_submitted
        and not job.state.is_terminal
    ]


class SkyRequest(Value):
    """A request to the API server, which remembers it for a day by default.

    Attributes:
        verb: ``launch``, ``exec``, ``stop``, ``down`` and others.
        task_name: The name of the task, of a launch or exec.
        is_to_be_repeated: Whether it ended without a fault, because the server was updated.
    """

    request_id: str
    verb: str
    status: str
    created_at: float
    task_name: str = ""
    is_to_be_repeated: bool = False

    @property
    def is_launch(self) -> bool:
        """Whether it asks for a job."""
        return self.verb in ("launch", "exec")

    @property
    def is_live(self) -> bool:
        """Whether the API server still works on it."""
        return self.status in ("PENDING", "RUNNING", "WAITING")

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended without an error."""
        return self.status == "SUCCEEDED"

    @property
    def was_cancelled(self) -> bool:
        """Whether a user ended it, for example by taking its cluster down."""
        return self.status == "CANCELLED" and not self.is_to_be_repeated


def cluster_of(record: Any) -> SkyCluster:
    """Read a cluster from the client's record of it."""
    return SkyCluster(
        name=record.name,
        cloud=_cloud_of(record),
        state=SkyClusterState(record.status.value),
        launched_at=record.launched_at,
        autostop=record.autostop,
        nodes=record.nodes,
        resources=record.resources_str or "",
        hourly_cost=_hourly_cost(record),
    )


def _cloud_of(record: Any) -> str:
    launched = getattr(record.handle, "launched_resources", None)
    return str(launched.cloud) if launched is not None else record.cloud or ""


def _hourly_cost(record: Any) -> float | None:
    """The price of all nodes; None where SkyPilot has no price list, or cannot load it."""
    with note_defects(partial(_logger.debug, "No price of cluster %s: %r", record.name)):
        # A cloud without prices, such as Slurm, costs 0 there.
        return record.handle.get_hourly_price() or None
    return None


def request_of(item: dict[str, Any]) -> SkyRequest:
    """Read a request from the server's record of it."""
    body: dict[str, Any] = json.loads(item["request_body"]) or {}
    task = body.get("task")
    return SkyRequest(
        request_id=item["request_id"],
        verb=str(item["name"]).removeprefix("sky."),
        status=item["status"],
        created_at=item["created_at"],
        task_name=_name_in(task) if isinstance(task, str) else "",
        is_to_be_repeated=bool(item.get("should_retry")),
    )


def _name_in(task: str) -> str:
    """The name in a task's YAML, which may be one of several documents."""
    documents: list[Any] = [item for item in yaml.safe_load_all(task) if isinstance(item, dict)]
    return next((str(item["name"]) for item in documents if item.get("name")), "")
