"""Cold start: an MCP server on a machine without an engine, to the first job accepted.

`run_oumi_job` is called at once, and answers when the job is durable. Then until the worker has
loaded Oumi, which the server does not wait for. The floor is Prefect's own way to start a server.
"""

import asyncio
import subprocess
import time
from contextlib import suppress

from benchmarks.support import (
    BIN,
    OURS,
    Bench,
    Report,
    bench,
    done,
    main,
    mcp_client,
    submit,
)

PEER = "prefect server start --background"
PEER_PORT = "14231"


def measure(report: Report, runs: int) -> None:
    accepted: list[float] = []
    finished: list[float] = []
    again: list[float] = []
    peer: list[float] = []
    for _ in range(runs):
        with bench() as made:
            first, end = asyncio.run(first_job(made, wait=True))
            accepted.append(first)
            finished.append(end)
            made.cli("down")
            again.append(asyncio.run(first_job(made, wait=False))[0])
        with bench() as made:
            peer.append(prefect_server(made))
    report.add("engine cold start to first job accepted", OURS, accepted, "s", "<= 15 s")
    report.add("the same, engine used before", OURS, again, "s")
    report.add("server healthy, nothing deployed, no worker", PEER, peer, "s")
    report.add("engine cold start to first job done, Oumi loaded", OURS, finished, "s", "<= 40 s")


async def first_job(made: Bench, *, wait: bool) -> tuple[float, float]:
    """Seconds from the MCP server's spawn to the first job accepted, and, if waited for, done."""
    config = made.job("first", "true")
    started = time.perf_counter()
    async with mcp_client(made) as client:
        job = await submit(client, config)
        accepted = time.perf_counter() - started
        if wait:
            await done(client, job["job_id"])
        return accepted, time.perf_counter() - started


def prefect_server(made: Bench) -> float:
    """Seconds that Prefect's own command takes; it returns when the server is healthy."""
    prefect = [str(BIN / "prefect"), "server"]
    started = time.perf_counter()
    try:
        subprocess.run(
            [*prefect, "start", "--background", "--port", PEER_PORT],
            env=made.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=True,
        )
        return time.perf_counter() - started
    finally:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [*prefect, "stop"], env=made.env, capture_output=True, timeout=60, check=False
            )


if __name__ == "__main__":
    main("cold_start", __doc__, measure, runs=2)
