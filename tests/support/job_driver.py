"""Jobs of one test on a running engine: submitted as a client does, ended when the test ends."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
from mcp.client import Client

from flows.core import names
from flows.core.settings import Settings
from mcp_server.engine import Connection
from mcp_server.engine_keeper import Report
from mcp_server.server import Options, build_server, make_parts
from tests.support.jobs import job_config
from tests.support.waiting import eventually

PREFECT = Path(sys.executable).with_name("prefect")
ENDED = frozenset({"succeeded", "failed", "cancelled", "crashed"})

Answer = dict[str, Any]


@dataclass
class JobDriver:
    """One client's jobs, and the engine behind them.

    Attributes:
        client: An MCP client.
        rest: Prefect's REST API, as its UI uses it.
        environ: What a Prefect command needs to find the server.
        folder: Where job configs are written; also the client's working folder.
        local_dir: Where the engine keeps its local jobs.
        leases: What the test holds until its jobs have ended.
    """

    client: Client
    rest: httpx2.AsyncClient
    environ: Mapping[str, str]
    folder: Path
    local_dir: Path
    leases: ExitStack = field(default_factory=ExitStack)
    _submitted: list[str] = field(default_factory=list[str])

    async def call(self, tool: str, **arguments: object) -> Answer:
        """The structured answer of a tool; a failed call fails the test."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def error(self, tool: str, **arguments: object) -> str:
        """The line that a failed call answers with."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        (content,) = result.content
        assert content.type == "text"
        return content.text

    async def submit(self, script: str, *, name: str = "job", **arguments: object) -> str:
        """Start a job that runs `script`; its id."""
        return await self.submit_config(job_config(self.folder, name, script), **arguments)

    async def submit_config(self, config: Path, **arguments: object) -> str:
        """Start the job of a config; its id."""
        given = {"client_cwd": str(self.folder), "dry_run": False, **arguments}
        answer = await self.call("run_oumi_job", config_path=str(config), **given)
        self._submitted.append(answer["job_id"])
        return answer["job_id"]

    def adopt(self, job_id: str) -> None:
        """Have a job that came about by other means ended with the test."""
        self._submitted.append(job_id)

    async def status(self, job_id: str) -> Answer:
        """The job's current state."""
        return await self.call("get_job_status", job_id=job_id)

    async def reaching(
        self, job_id: str, states: str | Iterable[str], *, timeout: float = 30.0
    ) -> Answer:
        """The job's status once it is in one of `states`; fails when it ends in another."""
        wanted = {states} if isinstance(states, str) else set(states)
        status: Answer = {}

        async def look() -> bool:
            nonlocal status
            status = await self.status(job_id)
            return status["state"] in wanted or status["is_done"]

        with suppress(AssertionError):  # the status says more than the time-out
            await eventually(look, timeout=timeout, interval=0.1)
        assert status["state"] in wanted, status
        return status

    async def ended(self, job_id: str, *, timeout: float = 30.0) -> Answer:
        """The job's status once it has ended."""
        return await self.reaching(job_id, ENDED, timeout=timeout)

    async def propose(self, job_id: str, state: str, name: str, *, force: bool) -> None:
        """Set a state as the Prefect UI's buttons do."""
        body = {"state": {"type": state, "name": name}, "force": force}
        answer = await self.rest.post(f"/flow_runs/{job_id}/set_state", json=body)
        answer.raise_for_status()

    async def prefect(self, *arguments: str) -> None:
        """Run ``prefect ARGUMENTS``; a failure fails the test."""
        process = await asyncio.create_subprocess_exec(
            str(PREFECT),
            "--no-prompt",
            *arguments,
            env={**os.environ, **self.environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()

    async def end_all(self) -> None:
        """End whatever the test left running."""
        for job_id in self._submitted:
            if not (await self.status(job_id))["is_done"]:
                await self.client.call_tool("cancel_job", {"job_id": job_id, "force": True})
        for job_id in self._submitted:
            await self.ended(job_id)


@asynccontextmanager
async def job_driver(
    connection: Connection, home: Path, folder: Path, environ: Mapping[str, str]
) -> AsyncGenerator[JobDriver]:
    """A driver for one test.

    Args:
        connection: The engine's Prefect server.
        home: The engine's OUMI_FLOWS_HOME.
        folder: An empty folder for configs.
        environ: What a Prefect command needs to find the server.
    """

    def ensure(*, report: Report, after_down: bool) -> Connection:
        return connection

    settings = Settings(home=home)
    parts = make_parts(settings, ensure)
    rest = httpx2.AsyncClient(
        base_url=connection.api_url, headers=connection.headers, timeout=30, trust_env=False
    )
    async with rest, Client(build_server(parts, Options())) as client:
        driver = JobDriver(client, rest, environ, folder, settings.local_dir)
        with driver.leases:
            try:
                yield driver
            finally:
                await driver.end_all()


def job_processes(job_id: str) -> list[psutil.Process]:
    """The live processes of any attempt of a job, however far they have daemonised."""
    key = names.launch_key(job_id, 1).removesuffix("1")
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(names.JOB_KEY_ENV, "").startswith(key)
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
