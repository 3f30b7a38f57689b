"""Pipelines and sweeps on a bench: submitted by the real service, run by the bench's workers."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

from flows.core import names
from mcp_server.engine import Connection
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.families.pipelines import NewPipeline, PipelineService
from mcp_server.services.families.sweeps import NewSweep, SweepService
from mcp_server.services.jobs.service import JobService
from mcp_server.services.machines import MachineService
from tests.flows.bench import PATIENCE_SECONDS, Bench, state_of
from tests.support.fake_launcher import FakeJob
from tests.support.waiting import eventually

ENTRYPOINTS = {
    names.PIPELINE_FLOW: "flows.families.pipeline_flow.run_pipeline",
    names.SWEEP_FLOW: "flows.families.sweep_flow.run_sweep",
}


@dataclass
class Family:
    """A bench, and the services of an MCP server for it."""

    bench: Bench
    jobs: JobService
    pipelines: PipelineService
    sweeps: SweepService
    machines: MachineService

    def config(self, name: str, run: str = "hold", *, cloud: str = "local") -> str:
        """A job config for the fake launcher, which does what `run` says."""
        path = self.bench.folder / f"{name}.yaml"
        path.write_text(f"name: {name}\nresources: {{cloud: {cloud}}}\nrun: {json.dumps(run)}\n")
        return path.name

    def step(self, name: str, run: str = "hold", **fields: Any) -> dict[str, Any]:
        """A step with a job config of its own."""
        config = self.config(name, run, cloud=fields.get("cloud", "local"))
        return {"name": name, "config_path": config, **fields}

    async def submit(self, *steps: dict[str, Any]) -> UUID:
        """Start a pipeline; its id."""
        new = NewPipeline(steps=list(steps), client_cwd=str(self.bench.folder))
        return UUID((await self.pipelines.submit(new)).job_id)

    async def sweep(self, run: str = "hold", **fields: Any) -> UUID:
        """Start a sweep of a job config; its id."""
        content = {"config_path": self.config("trial", run), **fields}
        new = NewSweep(sweep=content, client_cwd=str(self.bench.folder))
        return UUID((await self.sweeps.submit(new)).job_id)

    async def children(self, parent: UUID) -> dict[str, FlowRun]:
        """The jobs there are, by part."""
        mine = FlowRunFilterParentFlowRunId(any_=[parent])
        found = await self.bench.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=mine)
        )
        return {str(run.labels["oumi.part"]): run for run in found}

    async def states(self, parent: UUID) -> dict[str, str]:
        """The state of each job there is."""
        return {part: state_of(run).value for part, run in (await self.children(parent)).items()}

    async def launched(self, parent: UUID, part: str, attempt: int = 1) -> FakeJob:
        """The launcher's job of a part, once there is one."""

        async def child() -> FlowRun | None:
            return (await self.children(parent)).get(part)

        run = await eventually(child, timeout=PATIENCE_SECONDS)
        assert run is not None
        return await self.bench.launched(run.id, attempt)

    async def goes_on(self, parent: UUID) -> None:
        """Wait until a run that had ended has not."""

        async def lives() -> bool:
            return not state_of(await self.bench.run(parent)).is_terminal

        await eventually(lives, timeout=PATIENCE_SECONDS)

    def leave_metrics(self, folder: str, **metrics: float) -> None:
        """What `oumi evaluate` would leave in a folder."""
        path = self.bench.folder / folder / "custom_1" / "task_result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(metrics))


class _Running:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def connection(self) -> Connection:
        return self._connection

    async def revive(self) -> Connection:
        return self._connection


@asynccontextmanager
async def family_on(bench: Bench, connection: Connection) -> AsyncGenerator[Family]:
    """A family, with deployments of its own for as long as the context lasts."""
    made = [
        await bench.client.create_deployment(
            flow_id=await bench.client.create_flow_from_name(flow),
            name=bench.pool,
            work_pool_name=bench.pool,
            entrypoint=entrypoint,
            pull_steps=[],
        )
        for flow, entrypoint in ENTRYPOINTS.items()
    ]
    gateway = PrefectGateway(_Running(connection), timeout_seconds=30, work_pool=bench.pool)
    snapshots: Path = bench.settings.snapshots_dir
    try:
        yield Family(
            bench,
            JobService(gateway, snapshots_dir=snapshots, records_dir=bench.settings.records_dir),
            PipelineService(gateway, snapshots_dir=snapshots),
            SweepService(gateway, snapshots_dir=snapshots),
            MachineService(gateway),
        )
    finally:
        await gateway.aclose()
        for deployment_id in made:
            await bench.client.delete_deployment(deployment_id)
