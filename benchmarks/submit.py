"""Submission: the call's latency, and the time until the job's own process runs.

The peer runs the same flow in a process for each run, which has to load Oumi.
"""

import asyncio
import time
from pathlib import Path

from benchmarks import process_worker as peer
from benchmarks.support import (
    OURS,
    Bench,
    Report,
    done,
    eventually,
    main,
    mcp_client,
    submit,
    timed,
    warm_engine,
)

PEER_RUNS = 2
SCRIPT = 'date +%s.%N > "started-$OUMI_FLOWS_JOB_KEY"'


def measure(report: Report, runs: int) -> None:
    with warm_engine(OUMI_FLOWS_LOCAL_SLOTS="4") as made:
        config = made.job("stamp", SCRIPT)
        calls, starts = asyncio.run(ours(made, config, runs))
        report.add("run_oumi_job(dry_run=false) returns", OURS, calls, "ms", "p50 <= 300 ms")
        what = "submit to job process started"
        report.add(what, OURS, starts, "s", "p50 <= 1.5 s")
        report.add(what, peer.NAME, asyncio.run(process_per_run(made, config)), "s")


async def ours(made: Bench, config: Path, runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each call; seconds to each start."""
    calls: list[float] = []
    starts: list[float] = []
    async with mcp_client(made) as client:
        await done(client, (await submit(client, config))["job_id"])
        for _ in range(runs):
            before = time.time()
            seconds, job = await timed(submit(client, config))
            calls.append(seconds * 1000)
            starts.append(await started_at(made, job["job_id"]) - before)
            await done(client, job["job_id"])
    return calls, starts


async def process_per_run(made: Bench, config: Path) -> list[float]:
    """Seconds from submission to the job's process under Prefect's process worker."""
    starts: list[float] = []
    env = made.prefect_env()
    request = {"config_path": str(config), "client_cwd": str(made.folder)}
    async with peer.api_of(env) as api, mcp_client(made) as client:
        deployment = await peer.deploy_job_flow(api)
        with peer.process_worker(env, made.folder):
            for number in range(PEER_RUNS + 1):
                before = time.time()
                run = await peer.post(
                    api,
                    f"/deployments/{deployment}/create_flow_run",
                    {"parameters": {"request": request}, "tags": ["oumi"]},
                )
                seconds = await started_at(made, run["id"]) - before
                if number:  # the first waits for the worker's own start
                    starts.append(seconds)
                await done(client, run["id"])
    return starts


async def started_at(made: Bench, job_id: str) -> float:
    """When the job's script began, as the script says."""
    stamp = made.folder / f"started-oumi-{job_id.replace('-', '')}-1"
    _, text = await eventually(lambda: stamp.exists() and stamp.read_text().strip(), timeout=120)
    return float(text)


if __name__ == "__main__":
    main("submit", __doc__, measure, runs=20)
