"""Local jobs of runs: which runs have them, and which are on this machine."""

from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.models import JobHandle
from flows.core.run_labels import RunLabels
from flows.launcher.port import Launcher


def is_local(run: FlowRun) -> bool:
    """Whether a run is a job on its worker's own machine."""
    return names.cloud_tag(names.LOCAL_CLOUD) in run.tags


def attempt_of(run: FlowRun) -> int:
    """The number of the current attempt of a run, from 1."""
    return RunLabels.read(run.labels).attempt or 1


async def find_here(run: FlowRun, attempt: int, launcher: Launcher) -> JobHandle | None:
    """Find the job of an attempt in this machine's home; None: it has none there."""
    return await launcher.find(
        cloud=names.LOCAL_CLOUD,
        cluster_name=names.LOCAL_CLUSTER,
        key=names.launch_key(run.id, attempt),
    )
