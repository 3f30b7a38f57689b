"""A hundred submissions at once: every job runs once, how fast they start, the slowest call.

Each job notes when it started. Meanwhile another MCP server lists jobs all the time, as a
person who watches would.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mcp import Client

from benchmarks.support import (
    OURS,
    Bench,
    Report,
    call,
    main,
    mcp_client,
    submit,
    timed,
    warm_engine,
)

JOBS = 100
DEADLINE_SECONDS = 150
SCRIPT = 'date +%s.%N >> "started-$OUMI_FLOWS_JOB_KEY"'


@dataclass
class Burst:
    """What one burst showed; times in seconds."""

    submitted_at: float = 0.0
    accepted_after: float = 0.0
    submissions: list[float] = field(default_factory=list[float])
    reads: list[float] = field(default_factory=list[float])
    accepted: int = 0
    succeeded: int = 0
    starts: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    @property
    def started_twice(self) -> int:
        return sum(len(times) > 1 for times in self.starts.values())

    @property
    def last_start_after(self) -> float:
        return self._times[-1] - self.submitted_at

    @property
    def starts_per_second(self) -> float:
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    @property
    def _times(self) -> list[float]:
        return sorted(time for times in self.starts.values() for time in times)


def measure(report: Report, runs: int) -> None:
    with warm_engine(OUMI_FLOWS_LOCAL_SLOTS=str(JOBS)) as made:
        server, worker = processes(made)
        before = cpu_seconds(server), cpu_seconds(worker)
        bursts = [one_burst(made, made.folder / f"{number}") for number in range(runs)]
        used = cpu_seconds(server) - before[0], cpu_seconds(worker) - before[1]
        sizes = [process.memory_info().rss / 2**20 for process in (server, worker)]
    add = report.add
    add("100 at once: accepted", OURS, [b.accepted for b in bursts], "jobs", "100")
    add("100 at once: started", OURS, [len(b.starts) for b in bursts], "jobs", "100")
    add("100 at once: started twice", OURS, [b.started_twice for b in bursts], "jobs", "0")
    add("100 at once: succeeded", OURS, [b.succeeded for b in bursts], "jobs", "100")
    calls = [seconds for b in bursts for seconds in b.submissions]
    reads = [seconds for b in bursts for seconds in b.reads]
    add("100 at once: a submission", OURS, calls, "s", "none over 5 s")
    add("100 at once: list_jobs meanwhile", OURS, reads, "s", "none over 5 s")
    add("100 at once: all accepted after", OURS, [b.accepted_after for b in bursts], "s")
    add("100 at once: last one started after", OURS, [b.last_start_after for b in bursts], "s")
    add("run starts per second", OURS, [b.starts_per_second for b in bursts], "/s", ">= 4 /s")
    for who, seconds, size in zip(("server", "worker"), used, sizes, strict=True):
        add(f"CPU of the {who} per job", OURS, [seconds / runs / JOBS * 1000], "ms")
        add(f"RSS of the {who} afterwards", OURS, [size], "MiB")


def processes(made: Bench) -> tuple[psutil.Process, psutil.Process]:
    """The Prefect server and the worker."""
    status = made.status()
    return psutil.Process(status["server"]["pid"]), psutil.Process(status["worker"]["pid"])


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def one_burst(made: Bench, folder: Path) -> Burst:
    """Submit all at once, wait for their end and read when each started."""
    folder.mkdir()
    config = made.job("trivial", SCRIPT).rename(folder / "trivial.yaml")
    seen = Burst()
    asyncio.run(submit_all(made, config, seen))
    for stamp in folder.glob("started-*"):
        seen.starts[stamp.name] = [float(line) for line in stamp.read_text().split()]
    return seen


async def submit_all(made: Bench, config: Path, seen: Burst) -> None:
    async with mcp_client(made) as client, mcp_client(made) as watching:
        await call(client, "list_jobs")
        watch = asyncio.create_task(list_for_ever(watching, seen.reads))
        seen.submitted_at = time.time()
        answers = await asyncio.gather(*(timed(submit(client, config)) for _ in range(JOBS)))
        seen.accepted_after = time.time() - seen.submitted_at
        seen.submissions = [seconds for seconds, _ in answers]
        ids = {job["job_id"] for _, job in answers}
        seen.accepted = len(ids)
        seen.succeeded = await succeeded(client, ids)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def list_for_ever(client: Client, times: list[float]) -> None:
    while True:
        times.append((await timed(call(client, "list_jobs")))[0])
        await asyncio.sleep(0.5)


async def succeeded(client: Client, ids: set[str]) -> int:
    """How many of the jobs succeed, once none is live or the time is up."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if not (await call(client, "list_jobs", status="running", limit=1))["jobs"]:
            break
        await asyncio.sleep(0.5)
    found: set[str] = set()
    cursor = None
    while True:
        page = await call(client, "list_jobs", status="succeeded", limit=100, cursor=cursor)
        found |= {job["job_id"] for job in page["jobs"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return len(found & ids)


if __name__ == "__main__":
    main("burst", __doc__, measure, runs=2)
