"""A thousand jobs on twenty clusters, watched by one worker.

The cloud is a scripted one in files (tests/support/fake_cloud.py) in the place of one of Oumi's, so
that the worker does all it does for a real one: it loads Oumi, launches, watches, writes states. It
answers at once and costs nothing, so what is measured is ours.
"""

import asyncio
import fcntl
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from mcp import Client

from benchmarks.support import (
    OURS,
    REPOSITORY,
    Bench,
    Report,
    call,
    done,
    eventually,
    main,
    mcp_client,
    submit,
    warm_engine,
)

JOBS, CLUSTERS, FEW = 1000, 20, 20
AT_ONCE = 8
WINDOW_SECONDS = 60.0
SETTLE_SECONDS = 30.0
LONGEST_INTERVAL_SECONDS = 10.0
LAUNCH_SECONDS = 1500
CLOUD = "frontier"


def measure(report: Report, runs: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="oumi-flows-fake-cloud-"))
    deps = folder / "deps.txt"
    deps.write_text(f"{REPOSITORY}/tests/support/fake_cloud.py\n")
    try:
        with warm_engine(
            OUMI_EXTRA_DEPS_FILE=str(deps),
            FAKE_CLOUD=str(folder / "clusters"),
            FAKE_CLOUD_NAME=CLOUD,
        ) as made:
            asyncio.run(measure_on(report, made, folder / "clusters", runs))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def measure_on(report: Report, made: Bench, clusters: Path, runs: int) -> None:
    config = made.folder / "hold.yaml"
    config.write_text(f"name: hold\nresources: {{cloud: {CLOUD}}}\nrun: hold\n")
    worker = psutil.Process(made.status()["worker"]["pid"])
    async with mcp_client(made) as client:
        jobs = await hold(client, config, clusters, FEW)
        few = await watch(worker, clusters)
        began = time.monotonic()
        jobs += await hold(client, config, clusters, JOBS - FEW, there=FEW)
        took = time.monotonic() - began
        many = await watch(worker, clusters)
        ends = [await end_one(client, clusters, jobs) for _ in range(runs)]
        states = await call(client, "list_jobs", status="running", limit=1)
    what = f"{JOBS} jobs on {CLUSTERS} clusters"
    report.add(f"{what}: worker RSS", OURS, [worker_rss(worker)], "MiB", "<= 2,560")
    report.add(f"{what}: worker CPU", OURS, [many["cores"]], "cores", "<= 1")
    report.add(f"{FEW} jobs on {CLUSTERS} clusters: worker CPU", OURS, [few["cores"]], "cores")
    calls = "status calls per cluster in 10 s"
    report.add(f"{what}: {calls}", OURS, [many["calls"]], "calls", "as with few")
    report.add(f"{FEW} jobs on {CLUSTERS} clusters: {calls}", OURS, [few["calls"]], "calls")
    report.add(f"{what}: all launched after", OURS, [took], "s")
    report.add(f"{what}: end there to succeeded", OURS, ends, "s")
    print(states["summary"])


async def hold(
    client: Client, config: Path, clusters: Path, count: int, *, there: int = 0
) -> list[dict[str, Any]]:
    """Submit jobs that run until they are ended, and wait until all of them run."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> dict[str, Any]:
        async with at_once:
            name = f"batch.user{number % CLUSTERS}"
            return await submit(client, config, cloud=CLOUD, cluster_name=name, skip_preflight=True)

    jobs = await asyncio.gather(*(one(number) for number in range(count)))
    wanted = there + count
    await eventually(lambda: running(clusters) >= wanted, timeout=LAUNCH_SECONDS, interval=0.5)
    return list(jobs)


async def watch(worker: psutil.Process, clusters: Path) -> dict[str, float]:
    """What a while of watching costs, once the intervals have grown to their longest."""
    await asyncio.sleep(SETTLE_SECONDS)
    before, calls = cpu_seconds(worker), status_calls(clusters)
    began = time.monotonic()
    await asyncio.sleep(WINDOW_SECONDS)
    seconds = time.monotonic() - began
    made = (status_calls(clusters) - calls) / CLUSTERS
    return {
        "cores": (cpu_seconds(worker) - before) / seconds,
        "calls": made / seconds * LONGEST_INTERVAL_SECONDS,
    }


async def end_one(client: Client, clusters: Path, jobs: list[dict[str, Any]]) -> float:
    """Seconds from the end of a job on its cluster until it is known to have succeeded."""
    job = jobs.pop(random.randrange(len(jobs)))
    status = await call(client, "get_job_status", job_id=job["job_id"])
    path = clusters / f"{status['cluster_name']}.json"

    def release(state: dict[str, Any]) -> None:
        entry = state["jobs"][status["launcher_job_id"]]
        entry["state"], entry["facts"] = "succeeded", {"reason": "completed", "exit_code": 0}

    change(path, release)
    began = time.monotonic()
    ended = await done(client, job["job_id"])
    assert ended["state"] == "succeeded", ended
    return time.monotonic() - began


def change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a cluster's file, as the cluster itself does."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = json.loads(path.read_text())
        change(state)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(path)


def running(clusters: Path) -> int:
    return sum(
        job["state"] == "running"
        for state in all_states(clusters)
        for job in state["jobs"].values()
    )


def status_calls(clusters: Path) -> int:
    return sum(
        state["calls"].get("get_jobs", 0) + state["calls"].get("get_job", 0)
        for state in all_states(clusters)
    )


def all_states(clusters: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in clusters.glob("*.json")]


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def worker_rss(worker: psutil.Process) -> float:
    return worker.memory_info().rss / 2**20


if __name__ == "__main__":
    main("watching", __doc__, measure, runs=20)
