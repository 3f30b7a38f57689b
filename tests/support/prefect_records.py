"""What Prefect keeps, as text in which to look for what must not be there."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from mcp_server.engine import Connection
from tests.support.waiting import eventually


async def everything_kept(connection: Connection, job_id: str, *, attempts: int) -> str:
    """All of a job that has ended: run, states, task runs, log, artifacts, events."""
    of_run = {"flow_run_id": {"any_": [job_id]}}
    async with _reading(connection) as read:

        async def log() -> str:
            text = await read("POST", "/logs/filter", {"logs": of_run, "limit": 200})
            return text if text.count("Finished in state") >= attempts else ""

        events = {"filter": {"any_resource": {"id": [f"prefect.flow-run.{job_id}"]}}}
        flow_runs = {"flow_runs": {"id": {"any_": [job_id]}}}
        parts = [
            await eventually(log, timeout=30),
            await read("GET", f"/flow_runs/{job_id}"),
            await read("GET", f"/flow_run_states/?flow_run_id={job_id}"),
            await read("POST", "/task_runs/filter", flow_runs),
            await read("POST", "/artifacts/filter", {"artifacts": of_run}),
            await read("POST", "/events/filter", events),
        ]
    return "\n".join(parts)


async def kept_lately(connection: Connection) -> str:
    """The newest of all, schedules and the runs in which the worker was asked among them."""
    async with _reading(connection) as read:
        parts = [
            await read("POST", "/deployments/filter", {"limit": 100, "sort": "CREATED_DESC"}),
            await read("POST", "/flow_runs/filter", {"limit": 100, "sort": "START_TIME_DESC"}),
            await read("POST", "/artifacts/filter", {"limit": 100, "sort": "CREATED_DESC"}),
            await read("POST", "/logs/filter", {"limit": 200, "sort": "TIMESTAMP_DESC"}),
        ]
    return "\n".join(parts)


@asynccontextmanager
async def _reading(connection: Connection) -> AsyncGenerator[Callable[..., Awaitable[str]]]:
    async with httpx2.AsyncClient(
        base_url=connection.api_url, headers=dict(connection.headers), timeout=30
    ) as api:

        async def read(method: str, path: str, body: Any = None) -> str:
            answer = await api.request(method, path, json=body)
            answer.raise_for_status()
            return answer.text

        yield read
