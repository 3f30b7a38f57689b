"""Jobs without end; meanwhile the processes behind them are killed, and their clock is set."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from mcp.types import CallToolResult

from mcp_server.engine import Engine
from tests.support.jobs import job_config
from tests.support.reconnecting_client import ReconnectingClient
from tests.support.shifted_clock import ShiftedClock
from tests.support.waiting import eventually

can_cut_connections = shutil.which("ss") is not None and os.geteuid() == 0
"""Whether a test may abort connections of other processes."""

_HOST = "flows.launcher.local.warm.host"
_LIVE_JOBS = 6
_RECOVERY_SECONDS = 150.0
_CONNECT_SECONDS = 30.0
"""How long a worker that starts may take to its first connection."""
# Back by little only: what was due waits until the clock is there again.
_JUMPS_SECONDS = (7200, 30, -5)
_TRANSIENT = ("ENGINE_UNAVAILABLE", "TIMEOUT")


class Script(StrEnum):
    """What a job does, and by that how it has to end."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    STAYS = "stays"
    """Until it is cancelled."""

    @property
    def end(self) -> tuple[str, str]:
        """The one true end: job state and termination reason."""
        return _END[self]


_END = {
    Script.SUCCEEDS: ("succeeded", "completed"),
    Script.FAILS: ("failed", "nonzero_exit"),
    Script.STAYS: ("cancelled", "user_cancelled"),
}
_LAST_LINE = {Script.SUCCEEDS: "exit 0", Script.FAILS: "exit 3", Script.STAYS: "sleep 600"}


class Fault(StrEnum):
    """What happens to the processes behind the jobs; all but the last two are kills."""

    MCP_SERVER = "mcp server"
    WORKER = "worker"
    PREFECT_SERVER = "prefect server"
    WARM_HOST = "warm host"
    CONNECTIONS = "connections of the worker cut"
    CLOCK = "clock set"


@dataclass
class Job:
    """A job as the client knows it."""

    token: str
    script: Script
    number: int
    job_id: str = ""
    end: tuple[str, str] | None = None


@dataclass
class KillRounds:
    """Submits jobs through the clients and has faults happen around them.

    Attributes:
        engine: The engine whose processes are killed; no other test may use it.
        clock: The clock of all its processes and of the clients' servers.
        clients: They submit in turn, each on a server of its own.
        folder: For configs and the ledger.
        dice: Where all the randomness comes from.
    """

    engine: Engine
    clock: ShiftedClock | None
    clients: Sequence[ReconnectingClient]
    folder: Path
    dice: random.Random
    jobs: list[Job] = field(default_factory=list[Job])
    faults: Counter[Fault] = field(default_factory=Counter[Fault])
    _ended: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def ledger(self) -> Path:
        """A line for each time the script of a job began."""
        return self.folder / "ledger"

    async def run(self, rounds: Sequence[Sequence[Fault]]) -> None:
        """Have the faults of each round happen, then wait until every job has ended."""
        async with asyncio.TaskGroup() as group:
            submitting = group.create_task(self._submit_jobs(group))
            for number, faults in enumerate(rounds, 1):
                began = time.monotonic()
                await self._round(faults)
                took = time.monotonic() - began
                print(f"round {number}, {took:.0f} s: {', '.join(faults)}", flush=True)
            submitting.cancel()

    async def _round(self, faults: Sequence[Fault]) -> None:
        """Have some faults happen, and see that the engine is of use again."""
        for fault in faults:
            await asyncio.sleep(self.dice.uniform(0.0, 2.5))
            if await self._inject(fault):
                self.faults[fault] += 1
        submitted = len(self.jobs)
        async with asyncio.timeout(_RECOVERY_SECONDS), self._ended:
            await self._ended.wait_for(lambda: any(map(_ran, self.jobs[submitted:])))

    async def _inject(self, fault: Fault) -> bool:
        """Whether there was something to kill, or a clock to set."""
        if fault is Fault.CLOCK:
            if self.clock is not None:
                self.clock.jump(self.dice.choice(_JUMPS_SECONDS))
            return self.clock is not None
        return await kill(fault, engine=self.engine, client=self.dice.choice(self.clients))

    async def _submit_jobs(self, group: asyncio.TaskGroup) -> None:
        places = asyncio.Semaphore(_LIVE_JOBS)
        while True:
            await places.acquire()
            number = len(self.jobs)
            script = self.dice.choice(list(Script))
            job = Job(token=f"job-{number}-{script}", script=script, number=number)
            self.jobs.append(job)
            # Drawn here, so that one seed means one plan however the tasks interleave.
            plan = (self.dice.uniform(0.0, 1.0), self.dice.uniform(0.0, 3.0))
            following = group.create_task(self._follow(job, *plan))
            following.add_done_callback(lambda _: places.release())
            await asyncio.sleep(self.dice.uniform(0.0, 0.6))

    async def _follow(self, job: Job, work_seconds: float, cancel_after: float) -> None:
        """Submit a job, cancel it if that is its script, and see it to its end."""
        client = self.clients[job.number % len(self.clients)]
        begin = f"echo {job.token} >> '{self.ledger}'\nsleep {work_seconds:.2f}"
        config = job_config(self.folder, job.token, f"{begin}\n{_LAST_LINE[job.script]}")
        job.job_id = await self._submit(client, job, config)
        if job.script is Script.STAYS:
            await asyncio.sleep(cancel_after)
            await self._cancel(client, job)
        while job.end is None:
            status = await self._answer(client, "wait_for_job", job_id=job.job_id)
            if status["is_done"]:
                job.end = (status["state"], status["termination_reason"])
        async with self._ended:
            self._ended.notify_all()

    async def _submit(self, client: ReconnectingClient, job: Job, config: Path) -> str:
        submitted = await self._answer(
            client,
            "run_oumi_job",
            config_path=str(config),
            client_cwd=str(self.folder),
            idempotency_key=job.token,
            dry_run=False,
        )
        return submitted["job_id"]

    async def _cancel(self, client: ReconnectingClient, job: Job) -> None:
        while True:
            result = await client.call("cancel_job", job_id=job.job_id)
            # After a lost answer the job may be done with its cancel.
            if not result.is_error or error_code(result) == "JOB_ALREADY_DONE":
                return
            assert error_code(result) in _TRANSIENT, result.content

    async def _answer(
        self, client: ReconnectingClient, tool: str, **arguments: object
    ) -> dict[str, Any]:
        """The answer of a tool, asked until the engine is there."""
        while True:
            result = await client.call(tool, **arguments)
            if not result.is_error:
                assert result.structured_content is not None
                return result.structured_content
            assert error_code(result) in _TRANSIENT, result.content


async def kill(fault: Fault, *, engine: Engine, client: ReconnectingClient) -> bool:
    """Kill a process with signal 9; whether there was one."""
    if fault is Fault.MCP_SERVER:
        return client.kill_server()
    status = await asyncio.to_thread(engine.status)
    process = status.server if fault is Fault.PREFECT_SERVER else status.worker
    if process.pid is None or not process.alive:
        return False
    try:
        if fault is Fault.WARM_HOST:
            return _kill_warm_host(process.pid)
        if fault is Fault.CONNECTIONS:
            return can_cut_connections and await _cut_connections(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    except psutil.NoSuchProcess:  # another fault was quicker
        return False
    return True


def _kill_warm_host(worker: int) -> bool:
    """Kill the warm host of a worker; whether it has one."""
    for child in psutil.Process(worker).children():
        if _HOST in " ".join(child.cmdline()):
            child.kill()
            return True
    return False


async def _cut_connections(worker: int) -> bool:
    """Abort the connections of a worker, its websocket among them; whether it has any."""

    def find_ports() -> list[str]:
        found = psutil.Process(worker).net_connections("tcp")
        return [str(one.laddr.port) for one in found if one.status == psutil.CONN_ESTABLISHED]

    try:
        ports = await eventually(find_ports, timeout=_CONNECT_SECONDS)
    except AssertionError:
        return False
    for port in ports:
        command = ["ss", "-K", "sport", "=", port]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    return True


def _ran(job: Job) -> bool:
    """Whether its script came to its end, for which everything has to be up."""
    return job.end is not None and job.script is not Script.STAYS


def error_code(result: CallToolResult) -> str:
    """The code that the line of a failed call begins with."""
    (content,) = result.content
    assert content.type == "text"
    return content.text.partition(":")[0]
