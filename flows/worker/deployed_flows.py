"""The flow that a run is a run of, as its deployment says."""

import asyncio
from typing import Any, Final
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint

from flows.core import names
from flows.job.job_flow import run_job

_ENTRY_POINTS: Final = {
    names.PIPELINE_FLOW: "flows.families.pipeline_flow.run_pipeline",
    names.SWEEP_FLOW: "flows.families.sweep_flow.run_sweep",
}
"""The flows beside `oumi-job` whose runs outlive what asked for them."""


class FlowNotLoaded(Exception):
    """The worker cannot run a deployment: it names a flow that is not installed here."""


class DeployedFlows:
    """Reads a deployment once, and imports the entry point it names."""

    def __init__(self) -> None:
        self._flows: dict[UUID, Flow[Any, Any]] = {}

    async def of(self, run: FlowRun, *, client: PrefectClient) -> Flow[Any, Any]:
        """The flow of `run`; of one whose deployment is gone, the flow of ours of that name.

        Raises:
            FlowNotLoaded: The entry point cannot be imported here.
        """
        if run.deployment_id is None:
            return await self._by_name(run, client)
        if run.deployment_id not in self._flows:
            try:
                deployment = await client.read_deployment(run.deployment_id)
            except ObjectNotFound:
                return await self._by_name(run, client)
            self._flows[run.deployment_id] = await asyncio.to_thread(
                _load, deployment.entrypoint or ""
            )
        return self._flows[run.deployment_id]

    async def _by_name(self, run: FlowRun, client: PrefectClient) -> Flow[Any, Any]:
        name = (await client.read_flow(run.flow_id)).name
        entrypoint = _ENTRY_POINTS.get(name)
        return run_job if entrypoint is None else await asyncio.to_thread(_load, entrypoint)


def _load(entrypoint: str) -> Flow[Any, Any]:
    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except Exception as error:  # importing a module can raise anything
        raise FlowNotLoaded(
            f"Its entry point {entrypoint!r} cannot be imported: {error}"
        ) from error
