"""Local jobs of runs: which runs have them, which are on this machine, and which were given up."""

import logging
import re
from typing import Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from flows.core.models import JobHandle
from flows.core.run_labels import RunLabels
from flows.job.prefect_calls import read_all_runs
from flows.launcher.port import Launcher
from flows.worker.ownership import Owner

_KEY: Final = re.compile(r"oumi-([0-9a-f]{32})-\d+")
"""As `flows.core.names.launch_key` makes it."""


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


async def end_given_up(
    client: PrefectClient,
    launcher: Launcher,
    us: Owner,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
) -> None:
    """End the live jobs of this machine whose runs ended, or went on elsewhere, without it.

    Other workers gave them up, or a person set a state, while no worker ran here. Jobs of runs that
    this server does not know are left alone: they may be those of another server.
    """
    seen = await launcher.observe(names.LOCAL_CLOUD, names.LOCAL_CLUSTER)
    live: dict[UUID, list[str]] = {}
    for job_id, observation in seen.items():
        if not observation.state.is_terminal and (key := _KEY.fullmatch(job_id)):
            live.setdefault(UUID(hex=key[1]), []).append(job_id)
    if not live:
        return
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(live)))
    found = await read_all_runs(client, flow_run_filter=wanted)
    for run in found:
        if _is_given_up(run, us):
            logger.warning("The job of flow run %s was given up, and is ended here", run.id)
            for job_id in live[run.id]:
                await launcher.cancel(_handle(job_id), force=True)


def _is_given_up(run: FlowRun, us: Owner) -> bool:
    if run.state is not None and run.state.is_final():
        return True
    owner = Owner.parse(run.infrastructure_pid)
    return owner is not None and not owner.shares_home_with(us)


def _handle(job_id: str) -> JobHandle:
    return JobHandle(
        cloud=names.LOCAL_CLOUD, cluster_name=names.LOCAL_CLUSTER, launcher_job_id=job_id
    )
