"""Cost of a plain job for Prefect: API calls of the worker for one run, beyond its regular ones.

The HTTP client of every Prefect process says each request in its log. What the worker asks while
there is nothing to do is counted first, and taken off. The peer runs the same flow in a process for
each run; its worker's requests and those of the run's process are counted together.
"""

import asyncio
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx2

from benchmarks import process_worker as peer
from benchmarks.support import (
    OURS,
    Bench,
    Report,
    bench,
    done,
    main,
    mcp_client,
    submit,
    warm_engine,
)

IDLE_SECONDS = 30.0
PEER_RUNS = 3
POOL = "counted"
_REQUEST = re.compile(r"HTTP Request: (\w+) \S+?/api(/\S*)")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def measure(report: Report, runs: int) -> None:
    with warm_engine() as server, tempfile.TemporaryDirectory() as empty:
        prefect = server.prefect_env()
        with bench(
            # With a ~/.sky the worker loads SkyPilot, which silences the HTTP client's log.
            HOME=empty,
            OUMI_FLOWS_WORK_POOL=POOL,
            PREFECT_LOGGING_ROOT_LEVEL="INFO",
            **{name: prefect[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")},
        ) as made:
            made.cli("up", "--wait")
            (log,) = (made.home / "engine").glob("worker-*.log")
            calls = asyncio.run(ours(made, log, runs))
            report.add("API calls of the worker per job", OURS, [calls.total()], "calls")
            for request, count in calls.most_common():
                if count >= 0.5:
                    report.add(f"of them `{request}`", OURS, [count], "calls")
            theirs = asyncio.run(process_per_run(made))
            report.add("API calls of the worker per job", peer.NAME, [theirs.total()], "calls")


async def ours(made: Bench, log: Path, runs: int) -> Counter[str]:
    """The calls for one job, by method and path."""
    config = made.job("trivial", "true")
    async with mcp_client(made) as client:
        await done(client, (await submit(client, config))["job_id"])
        idle = await per_second(log)
        began, offset = time.monotonic(), end_of(log)
        for _ in range(runs):
            await done(client, (await submit(client, config))["job_id"])
        took = time.monotonic() - began
    return per_job(requests(log, offset), idle, took, runs)


async def process_per_run(made: Bench) -> Counter[str]:
    """The same under Prefect's process worker."""
    config, log = made.job("trivial", "true"), made.folder / "process-worker.log"
    request = {"config_path": str(config), "client_cwd": str(made.folder)}
    async with peer.api_of(made.env) as api, mcp_client(made) as client:
        deployment = await peer.deploy_job_flow(api, stream_output=True)
        with peer.process_worker(made.env, made.folder):
            run = await started(api, deployment, request)
            await done(client, run)
            idle = await per_second(log)
            began, offset = time.monotonic(), end_of(log)
            for _ in range(PEER_RUNS):
                await done(client, await started(api, deployment, request))
            took = time.monotonic() - began
    return per_job(requests(log, offset), idle, took, PEER_RUNS)


async def started(api: httpx2.AsyncClient, deployment: str, request: dict[str, str]) -> str:
    """The id of a new run."""
    body = {"parameters": {"request": request}, "tags": ["oumi"]}
    return (await peer.post(api, f"/deployments/{deployment}/create_flow_run", body))["id"]


async def per_second(log: Path) -> Counter[str]:
    """What is asked in a second in which nothing happens."""
    offset = end_of(log)
    await asyncio.sleep(IDLE_SECONDS)
    asked = requests(log, offset)
    if not asked:
        raise RuntimeError(f"{log} tells of no request")
    return Counter({request: count / IDLE_SECONDS for request, count in asked.items()})


def end_of(log: Path) -> int:
    """Where what is written from now on begins."""
    return log.stat().st_size


def per_job(asked: Counter[str], idle: Counter[str], seconds: float, jobs: int) -> Counter[str]:
    """The requests of one job, without those that would have been made anyway."""
    return Counter(
        {
            request: max(0.0, count - idle[request] * seconds) / jobs
            for request, count in asked.items()
        }
    )


def requests(log: Path, offset: int) -> Counter[str]:
    """The requests that a log tells of from a place on, with their ids left out."""
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode(errors="replace")
    return Counter(
        f"{method} {_ID.sub('ID', path).partition('?')[0]}"
        for method, path in _REQUEST.findall(text)
    )


if __name__ == "__main__":
    main("api_calls", __doc__, measure, runs=20)
