"""get_job_logs on a log of 1 GB: its tail, a search, and the part after a cursor. Floor: `tail`."""

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

from mcp import Client

from benchmarks.support import (
    OURS,
    Bench,
    Report,
    call,
    done,
    main,
    mcp_client,
    repeat,
    submit,
    warm_engine,
)
from flows.core.logs.pages import LogCursor, encode_cursor, read_tail

SIZE = 10**9
LINE = "{{'loss': '{:.4f}', 'grad_norm': '1.03', 'learning_rate': '2e-05', 'step': {}}}\n"
TARGET = "<= 50 ms"


def measure(report: Report, runs: int) -> None:
    with warm_engine() as made:
        asyncio.run(measure_on(report, made, runs))


async def measure_on(report: Report, made: Bench, runs: int) -> None:
    async with mcp_client(made) as client:
        job = await submit(client, made.job("quick", "echo first"))
        status = await done(client, job["job_id"])
        log = Path(status["log_path"])
        size = await asyncio.to_thread(grow, log)
        report.add("size of the log", OURS, [size / 1e6], "MB")
        job_id = job["job_id"]
        cursor = await cursor_at_start(client, job_id)
        questions: dict[str, dict[str, Any]] = {
            "get_job_logs(): tail, 80 lines": {},
            "get_job_logs(lines=2000): tail": {"lines": 2000},
            "get_job_logs(grep) that matches often": {"grep": "'step': \\d*7}"},
            "get_job_logs(cursor) from the beginning": {"cursor": cursor},
        }
        for what, arguments in questions.items():

            async def ask(arguments: dict[str, Any] = arguments) -> None:
                answer = await call(client, "get_job_logs", job_id=job_id, **arguments)
                if not answer["lines_returned"]:
                    raise RuntimeError(f"{arguments} returned nothing")

            target = TARGET if "tail" in what else ""
            report.add(what, OURS, await repeat(ask, runs), "ms", target)

    async def read() -> None:
        await asyncio.to_thread(read_tail, log, lines=80)

    report.add("the same tail, without MCP and Prefect", OURS, await repeat(read, runs), "ms")
    report.add("80 lines from the end", "tail -n 80", tail(log, runs), "ms")

    async def search() -> None:
        await asyncio.to_thread(read_tail, log, lines=80, grep="absent")

    few = max(1, runs // 10)
    report.add("a search of 32 MiB that finds nothing", OURS, await repeat(search, few), "ms")
    hard = log.with_name("hard")
    hard.write_text("a" * 5000 + "!\n")

    async def search_hard() -> None:
        await asyncio.to_thread(read_tail, hard, lines=80, grep="(a+)+$")

    report.add("a search for (a+)+$ in 5,000 a", OURS, await repeat(search_hard, runs), "ms")


async def cursor_at_start(client: Client, job_id: str) -> str:
    """A cursor near the log's beginning."""
    cursor = encode_cursor(LogCursor(1, 6))
    answer = await call(client, "get_job_logs", job_id=job_id, cursor=cursor, lines=1)
    return answer["next_cursor"]


def grow(log: Path) -> int:
    """Write more to a log until it has a gigabyte; its size."""
    block = "".join(LINE.format(5 - i / 10_000, i) for i in range(20_000)).encode()
    with log.open("ab") as file:
        while file.tell() < SIZE:
            file.write(block)
        return file.tell()


def tail(log: Path, runs: int) -> list[float]:
    """Milliseconds that the command takes."""
    values: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(["tail", "-n", "80", str(log)], capture_output=True, check=True)
        values.append((time.perf_counter() - started) * 1000)
    return values


if __name__ == "__main__":
    main("log_reading", __doc__, measure, runs=30)
