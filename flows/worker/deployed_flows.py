"""Finds the flow of a run by its deployment."""

import asyncio
import time
from functools import partial
from typing import Any, Final
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint

from flows.core import names
from flows.core.foreign_errors import translate_foreign
from flows.job.job_flow import run_job

_ENTRY_POINTS: Final = {
    names.PIPELINE_FLOW: "flows.families.pipeline_flow.run_pipeline",
    names.SWEEP_FLOW: "flows.families.sweep_flow.run_sweep",
    names.COLLECT_FLOW: "flows.collecting.collect_flow.collect_results",
}
"""The flows besides `oumi-job` whose runs may outlive their deployment."""

_EARLIER: Final = {
    "flows.job.run_job": "flows.job.job_flow.run_job",
    "flows.validation.validate_config": "flows.answers.validate_config.validate_config",
    "flows.pre_flight.pre_flight_check": "flows.answers.pre_flight_check.pre_flight_check",
    "flows.run_pipeline.run_pipeline": "flows.families.pipeline_flow.run_pipeline",
    "flows.run_sweep.run_sweep": "flows.families.sweep_flow.run_sweep",
    "flows.cluster.list_clusters": "flows.answers.clusters.list_clusters",
    "flows.cluster.stop_cluster": "flows.answers.clusters.stop_cluster",
    "flows.cluster.down_cluster": "flows.answers.clusters.down_cluster",
    "flows.external_jobs.external_job": "flows.answers.external_jobs.external_job",
    "flows.external_jobs.external_log": "flows.answers.external_jobs.external_log",
}
"""Entry points that the first version deployed, and where the same flows are now. A worker finds
them until prefect.yaml is applied again."""
_OURS: Final = "flows."
_FAILURE_SECONDS: Final = 30.0
"""How long to wait before a deployment that could not be loaded is tried again."""


class FlowNotLoaded(Exception):
    """The worker cannot run a deployment: it names a flow that is not installed here.

    Attributes:
        is_ours: Whether the flow belongs to another version of oumi-flows.
    """

    def __init__(self, entrypoint: str, error: Exception) -> None:
        super().__init__(f"Its entry point {entrypoint!r} cannot be imported: {error}")
        self.is_ours = entrypoint.startswith(_OURS)


class DeployedFlows:
    """Reads a deployment once, and imports the entry point it names."""

    def __init__(self) -> None:
        self._flows: dict[UUID, Flow[Any, Any]] = {}
        self._failures: dict[UUID, tuple[float, FlowNotLoaded]] = {}

    async def of(self, run: FlowRun, *, client: PrefectClient) -> Flow[Any, Any]:
        """The flow of `run`; if its deployment is gone, our flow of the same name.

        Raises:
            FlowNotLoaded: The entry point cannot be imported here.
        """
        if run.deployment_id is None:
            return await self._by_name(run, client)
        if run.deployment_id not in self._flows:
            failed_at, failure = self._failures.get(run.deployment_id, (0.0, None))
            if failure is not None and time.monotonic() - failed_at < _FAILURE_SECONDS:
                raise failure
            try:
                deployment = await client.read_deployment(run.deployment_id)
            except ObjectNotFound:
                return await self._by_name(run, client)
            try:
                flow = await asyncio.to_thread(_load, deployment.entrypoint or "")
            except FlowNotLoaded as error:
                self._failures[run.deployment_id] = time.monotonic(), error
                raise
            self._flows[run.deployment_id] = flow
        return self._flows[run.deployment_id]

    async def _by_name(self, run: FlowRun, client: PrefectClient) -> Flow[Any, Any]:
        name = (await client.read_flow(run.flow_id)).name
        entrypoint = _ENTRY_POINTS.get(name)
        return run_job if entrypoint is None else await asyncio.to_thread(_load, entrypoint)


def _load(entrypoint: str) -> Flow[Any, Any]:
    now = _EARLIER.get(entrypoint, entrypoint)
    # Importing a module can raise anything.
    with translate_foreign(partial(FlowNotLoaded, entrypoint)):
        return load_flow_from_entrypoint(now, use_placeholder_flow=False)
