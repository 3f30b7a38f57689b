"""The peer that ships with Prefect: its process worker, on the same server as ours."""

import subprocess
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.support import BIN
from flows.core.names import WORK_POOL, deployment

NAME = "Prefect process worker"
POOL = "bench-process"


@asynccontextmanager
async def api_of(env: dict[str, str]) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client of the Prefect server's API."""
    user, _, password = env["PREFECT_API_AUTH_STRING"].partition(":")
    async with httpx2.AsyncClient(
        base_url=env["PREFECT_API_URL"], auth=(user, password), timeout=60
    ) as api:
        yield api


async def post(api: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a POST."""
    answer = await api.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


async def deploy_job_flow(api: httpx2.AsyncClient, *, stream_output: bool = False) -> str:
    """The id of a second deployment of our job flow, in a pool of process workers."""
    known = (await api.get(f"/deployments/name/{deployment(WORK_POOL)}")).json()
    return await deploy(
        api,
        flow_id=known["flow_id"],
        entrypoint=known["entrypoint"],
        stream_output=stream_output,
    )


async def deploy(
    api: httpx2.AsyncClient,
    *,
    flow_id: str,
    entrypoint: str,
    path: str | None = None,
    stream_output: bool = False,
) -> str:
    """The id of a deployment in a pool of process workers."""
    await post(api, "/work_pools/", {"name": POOL, "type": "process"})
    body = {
        "name": POOL,
        "flow_id": flow_id,
        "entrypoint": entrypoint,
        "path": path,
        "work_pool_name": POOL,
        "job_variables": {"stream_output": stream_output},
    }
    return (await post(api, "/deployments/", body))["id"]


@contextmanager
def process_worker(env: dict[str, str], folder: Path) -> Generator[None]:
    """A process worker while the context is open; asks for work as often as ours."""
    with (folder / "process-worker.log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "prefect"), "worker", "start", "--type", "process", "--pool", POOL],
            env={
                **env,
                "PREFECT_WORKER_QUERY_SECONDS": "0.5",
                "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
