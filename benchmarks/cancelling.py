"""From cancel_job to the end: no process of the job left, and the run Cancelled.

The job has children and ends on SIGTERM. The peer is a flow that waits for the same script, under
Prefect's process worker, cancelled through Prefect's API.
"""

import asyncio
import time

import httpx2
import psutil
from mcp import Client

from benchmarks import process_worker as peer
from benchmarks.support import (
    MARKER,
    OURS,
    Bench,
    Report,
    call,
    eventually,
    main,
    mcp_client,
    submit,
    timed,
    warm_engine,
)

PEER_RUNS = 3
SCRIPT = "sleep 600 & sleep 600 &\nwait"
PROCESSES = 3
PEER_FLOW = f"""\
import subprocess
from prefect import flow


@flow
def wait_for_script():
    subprocess.run(["bash", "-c", {SCRIPT!r}], check=True)
"""


def measure(report: Report, runs: int) -> None:
    with warm_engine() as made:
        ended, answered = asyncio.run(ours(made, runs))
        what = "cancel to tree gone and Cancelled"
        report.add(what, OURS, ended, "s", "p50 <= 2 s")
        report.add("cancel_job returns", OURS, answered, "s", "<= 2 s")
        report.add(what, peer.NAME, asyncio.run(process_per_run(made)), "s")


async def ours(made: Bench, runs: int) -> tuple[list[float], list[float]]:
    """Seconds to the end; seconds until the call returned."""
    ended: list[float] = []
    answered: list[float] = []
    config = made.job("cooperative", SCRIPT)
    async with mcp_client(made) as client:
        for _ in range(runs):
            job_id = (await submit(client, config))["job_id"]
            await running(client, job_id)
            _, tree = await eventually(lambda j=job_id: whole_tree(marked_by(j)))
            before = time.time()
            gone = asyncio.create_task(eventually(lambda t=tree: not any(map(is_alive, t))))
            seconds, status = await timed(call(client, "cancel_job", job_id=job_id))
            answered.append(seconds)
            while not status["is_done"]:
                status = await call(client, "wait_for_job", job_id=job_id, timeout_seconds=10)
            if status["state"] != "cancelled":
                raise RuntimeError(status["summary"])
            ended.append(max(time.time(), (await gone)[0]) - before)
    return ended, answered


async def running(client: Client, job_id: str) -> None:
    status = await call(client, "wait_for_job", job_id=job_id, until="running", timeout_seconds=60)
    if status["state"] != "running":
        raise RuntimeError(status["summary"])


async def process_per_run(made: Bench) -> list[float]:
    """Seconds to the end under Prefect's process worker."""
    ended: list[float] = []
    env = made.prefect_env()
    folder = made.folder / "peer"
    folder.mkdir()
    (folder / "peer_flow.py").write_text(PEER_FLOW)
    async with peer.api_of(env) as api:
        flow = await peer.post(api, "/flows/", {"name": "wait-for-script"})
        deployment = await peer.deploy(
            api,
            flow_id=flow["id"],
            entrypoint="peer_flow.py:wait_for_script",
            path=str(folder),
        )
        with peer.process_worker(env, folder):
            for _ in range(PEER_RUNS):
                path = f"/deployments/{deployment}/create_flow_run"
                run = (await peer.post(api, path, {}))["id"]
                _, tree = await eventually(lambda: whole_tree(sleepers(made)))
                await until_state(api, run, "RUNNING")
                before = time.time()
                await peer.post(
                    api, f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}}
                )
                gone = eventually(lambda t=tree: not any(map(is_alive, t)))
                _, (tree_gone, _) = await asyncio.gather(until_state(api, run, "CANCELLED"), gone)
                ended.append(max(time.time(), tree_gone) - before)
    return ended


async def until_state(api: httpx2.AsyncClient, run: str, state: str) -> None:
    async with asyncio.timeout(120):
        while True:
            found = (await api.get(f"/flow_runs/{run}")).json()["state_type"]
            if found == state:
                return
            await asyncio.sleep(0.05)


def whole_tree(found: list[psutil.Process]) -> list[psutil.Process]:
    """The processes, once all of them are there."""
    return found if len(found) >= PROCESSES else []


def marked_by(job_id: str) -> list[psutil.Process]:
    """The processes of a job of ours, by what is in their environment."""
    key = f"oumi-{job_id.replace('-', '')}-1"
    return [p for p in alive() if environment_of(p).get("OUMI_FLOWS_JOB_KEY") == key]


def sleepers(made: Bench) -> list[psutil.Process]:
    """The processes of the peer's script."""
    ours = [p for p in alive() if environment_of(p).get(MARKER) == made.env[MARKER]]
    return [process for process in ours if process.name() in ("bash", "sleep")]


def alive() -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if is_alive(process)]


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


if __name__ == "__main__":
    main("cancelling", __doc__, measure, runs=8)
