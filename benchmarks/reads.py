"""Reading jobs, with 10,000 of them in the database.

A few jobs run for real; the others are copies of their rows (runs, states, artifacts), spread over
the past. The floor is the same question put to Prefect's API directly.
"""

import asyncio
import random
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import process_worker as peer
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

JOBS = 10_000
FAILED_ONE_IN = 10
TARGET = "p50 <= 60 ms"
FLOOR = "Prefect's API"
COPIED = {"flow_run_state": "flow_run_id", "artifact": "flow_run_id"}
TIMES = (
    "created",
    "updated",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "timestamp",
    "state_timestamp",
)


def measure(report: Report, runs: int) -> None:
    with warm_engine() as made:
        asyncio.run(measure_on(report, made, runs))


async def measure_on(report: Report, made: Bench, runs: int) -> None:
    async with mcp_client(made) as client:
        real: list[str] = []
        for name, script in {"well": "echo 1", "badly": "exit 3"}.items():
            job = await submit(client, made.job(name, script))
            real.append((await done(client, job["job_id"]))["job_id"])
        ids = await asyncio.to_thread(copy_runs, made, real)
        questions: dict[str, dict[str, Any]] = {
            "list_jobs()": {},
            "list_jobs(limit=100)": {"limit": 100},
            'list_jobs(status="completed")': {"status": "completed"},
            'list_jobs(status="succeeded")': {"status": "succeeded"},
            'list_jobs(status="failed")': {"status": "failed"},
            'list_jobs(status="crashed")': {"status": "crashed"},
            'list_jobs(status="running")': {"status": "running"},
            'list_jobs(cloud="local", limit=100)': {"cloud": "local", "limit": 100},
            'list_jobs(name="badly")': {"name": "badly"},
            'list_jobs(name="no such")': {"name": "no such"},
            'list_jobs(tag="no-such")': {"tag": "no-such"},
            'list_jobs(since="2h")': {"since": "2h"},
            'list_jobs(model="no such")': {"model": "no such"},
        }

        async def status(digits: int) -> None:
            await call(client, "get_job_status", job_id=random.choice(ids)[:digits])

        report.add("get_job_status(id)", OURS, await repeat(lambda: status(36), runs), "ms", TARGET)
        report.add(
            "get_job_status(prefix)", OURS, await repeat(lambda: status(13), runs), "ms", TARGET
        )
        for what, arguments in questions.items():
            values = await repeat(lambda a=arguments: call(client, "list_jobs", **a), runs)
            report.add(what, OURS, values, "ms", TARGET)
        values = await repeat(lambda: pages(client), max(runs // 10, 2))
        report.add("list_jobs, ten pages of 20", OURS, values, "ms")
    await floor(report, made, ids, runs)


async def pages(client: Any) -> None:
    cursor = None
    for _ in range(10):
        cursor = (await call(client, "list_jobs", cursor=cursor))["next_cursor"]


async def floor(report: Report, made: Bench, ids: list[str], runs: int) -> None:
    async with peer.api_of(made.prefect_env()) as api:

        async def one() -> None:
            (await api.get(f"/flow_runs/{random.choice(ids)}")).raise_for_status()

        wanted = {
            "flow_runs": {"tags": {"all_": ["oumi"]}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 20,
        }
        report.add("GET a flow run", FLOOR, await repeat(one, runs), "ms")
        report.add(
            "filter flow runs, 20",
            FLOOR,
            await repeat(lambda: peer.post(api, "/flow_runs/filter", wanted), runs),
            "ms",
        )


def copy_runs(made: Bench, real: list[str]) -> list[str]:
    """Fill the database up with copies of the real runs; all ids."""
    database = made.home / "engine" / "prefect.db"
    ids = list(real)
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.row_factory = sqlite3.Row
        originals = [Original(connection, run) for run in real]
        with connection:
            for number in range(JOBS - len(real)):
                original = originals[number % FAILED_ONE_IN == 0]
                copy = original.copy(minutes_ago=number + 1)
                ids.append(copy["flow_run"][0]["id"])
                for table, rows in copy.items():
                    for row in rows:
                        insert(connection, table, row)
    return ids


class Original:
    """The rows of one run."""

    def __init__(self, connection: sqlite3.Connection, run: str) -> None:
        self._rows = {
            "flow_run": select(connection, "flow_run", "id", run),
            **{table: select(connection, table, key, run) for table, key in COPIED.items()},
        }

    def copy(self, *, minutes_ago: int) -> dict[str, list[dict[str, Any]]]:
        """The rows of another run like it, some time ago."""
        new_ids: dict[str, str] = {}

        def new_id(old: str) -> str:
            return new_ids.setdefault(old, str(uuid.uuid4()))

        copies: dict[str, list[dict[str, Any]]] = {}
        for table, rows in self._rows.items():
            copies[table] = [dict(row) for row in rows]
            for row in copies[table]:
                row["id"] = new_id(row["id"])
                for column in ("flow_run_id", "state_id"):
                    if row.get(column):
                        row[column] = new_id(row[column])
                for column in TIMES:
                    if row.get(column):
                        row[column] = earlier(row[column], minutes_ago)
        for run in copies["flow_run"]:
            run["idempotency_key"] = run["id"]
            run["name"] = f"{run['name'].rpartition('-')[0]}-{run['id'][:8]}"
        for artifact in copies["artifact"]:
            artifact["key"] = f"job-{artifact['flow_run_id']}"
        return copies


def select(
    connection: sqlite3.Connection, table: str, column: str, value: str
) -> list[dict[str, Any]]:
    found = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,))
    return [dict(row) for row in found]


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    columns = ", ".join(f'"{name}"' for name in row)
    connection.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})",
        list(row.values()),
    )


def earlier(instant: str, minutes: int) -> str:
    """An instant as SQLite has it, some minutes earlier."""
    then = datetime.fromisoformat(instant).replace(tzinfo=UTC) - timedelta(minutes=minutes)
    return then.strftime("%Y-%m-%d %H:%M:%S.%f")


if __name__ == "__main__":
    main("reads", __doc__, measure, runs=50)
