"""Jobs of the real flow, on a real Prefect server, over a launcher in memory."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.core import names
from flows.core.prefect_states import job_state, read_message
from flows.core.settings import Settings
from flows.core.states import JobState, TerminationReason
from flows.job.intervals import Intervals
from flows.worker.oumi_worker import OumiWorker
from mcp_server.engine import Connection
from tests.support.fake_launcher import FakeJob, FakeLauncher
from tests.support.waiting import eventually

PATIENCE_SECONDS = 60.0
"""Long enough for a machine with other things to do."""

INTERVALS = Intervals(sweep=1.0, log_settle=0.0)

Ending = tuple[JobState, TerminationReason | None, str]


@dataclass
class Bench:
    """A work pool and a deployment of the test's own, and what its workers launch."""

    client: PrefectClient
    pool: str
    deployment_id: UUID
    settings: Settings
    launcher: FakeLauncher
    folder: Path
    writes: "Writes"
    intervals: Intervals = INTERVALS
    """Those of its workers."""
    labels: dict[str, Any] = field(default_factory=dict[str, Any])
    """Labels of the runs it submits, such as a price."""

    async def submit(
        self, run: str, *, setup: str = "", cloud: str = "local", **request: Any
    ) -> UUID:
        """Submit a job config whose script is `run`; its id."""
        config = self.folder / f"{uuid4().hex}.yaml"
        config.write_text(
            f"name: bench\nresources: {{cloud: {cloud}}}\n"
            f"setup: {json.dumps(setup)}\nrun: {json.dumps(run)}\n"
        )
        return await self.submit_config(config, cloud=cloud, **request)

    async def submit_config(self, config: Path, **request: Any) -> UUID:
        asked = {"config_path": str(config), "client_cwd": str(self.folder), **request}
        return await self.submit_parameters({"request": asked})

    async def submit_parameters(self, parameters: dict[str, Any]) -> UUID:
        run = await self.client.create_flow_run_from_deployment(
            self.deployment_id, parameters=parameters, labels=self.labels
        )
        return run.id

    def wait(self, **seconds: float) -> None:
        """Have its next workers wait other times than usual."""
        self.intervals = replace(self.intervals, **seconds)

    async def run(self, job_id: UUID) -> FlowRun:
        return await self.client.read_flow_run(job_id)

    async def states(self, job_id: UUID) -> list[str]:
        """The names of every state so far, without repeats in a row."""
        history = await self.client.read_flow_run_states(job_id)
        shown = [state.name or "" for state in sorted(history, key=lambda state: state.timestamp)]
        return [name for i, name in enumerate(shown) if i == 0 or name != shown[i - 1]]

    async def set_state(self, job_id: UUID, kind: StateType, name: str | None = None) -> None:
        """What a person does in the Prefect UI or through its API."""
        await self.client.set_flow_run_state(job_id, State(type=kind, name=name))

    async def cancel(self, job_id: UUID) -> None:
        await self.set_state(job_id, StateType.CANCELLING)

    async def retry(self, job_id: UUID) -> None:
        """What the Prefect UI's Retry does."""
        await self.set_state(job_id, StateType.SCHEDULED, "AwaitingRetry")

    async def reaches(self, job_id: UUID, *states: JobState) -> FlowRun:
        """The run once it is in one of the states; one that ends otherwise fails the test."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                seen = self.writes.count
                if run := await self._in(job_id, states):
                    return run
                await self.writes.after(seen)

    async def _in(self, job_id: UUID, states: tuple[JobState, ...]) -> FlowRun | None:
        run = await self.run(job_id)
        state = state_of(run)
        if state not in states:
            assert not state.is_terminal, f"ended {state}: {run.state and run.state.message}"
            return None
        return run

    async def ending(self, job_id: UUID) -> Ending:
        """How the job ended, once it has."""
        terminal = [state for state in JobState if state.is_terminal]
        run = await self.reaches(job_id, *terminal)
        assert run.state is not None
        reason, text = read_message(run.state.type.value, run.state.name or "", run.state.message)
        return state_of(run), reason, text

    async def launched(self, job_id: UUID, attempt: int = 1) -> FakeJob:
        """The launcher's job, once there is one."""
        key = names.launch_key(job_id, attempt)
        return await eventually(
            lambda: self.launcher.jobs.get(key), timeout=PATIENCE_SECONDS, interval=0.02
        )

    async def let_go(self, worker: "BenchWorker") -> None:
        """Wait until the worker executes nothing."""
        await eventually(lambda: not worker.active, timeout=PATIENCE_SECONDS, interval=0.02)

    @asynccontextmanager
    async def worker(
        self,
        *,
        settings: Settings | None = None,
        say: Callable[[str], None] | None = None,
        checks: Any = None,
        before: Callable[[str], None] | None = None,
        **options: Any,
    ) -> AsyncGenerator["BenchWorker"]:
        """A worker that is cut off, as by a kill, at the end of the context.

        Args:
            settings: Its settings, if not those of the bench.
            say: Receives every line of its log.
            checks: What it checks before a launch.
            before: Called with "look" or "execution" before each of them, which an error of it
                takes the place of.
            options: More arguments of the worker.
        """
        worker = BenchWorker(
            work_pool_name=self.pool,
            name=f"bench-{uuid4().hex[:8]}",
            settings=settings or self.settings,
            launcher=self.launcher,
            intervals=self.intervals,
            **options,
        )
        worker.before = before
        if say is not None:
            worker.tell(say)
        worker.check(checks)
        serving = asyncio.create_task(worker.start(printer=lambda *_: None))
        try:
            yield worker
            assert not serving.done(), serving.exception()
        finally:
            serving.cancel()
            await asyncio.wait([serving])


class BenchWorker(OumiWorker):
    """A worker that tells what it does."""

    type = "oumi-bench"
    looks = 0
    """How often it has asked what is due."""
    before: Callable[[str], None] | None = None

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        runs = await super().get_and_submit_flow_runs()
        self.looks += 1
        return runs

    async def _execute(self, run: FlowRun) -> None:
        if self.before is not None:
            self.before("execution")
        await super()._execute(run)

    async def _observe_cancels(self) -> None:
        if self.before is not None:
            self.before("look")
        await super()._observe_cancels()

    @property
    def active(self) -> list[UUID]:
        """The runs it executes."""
        return list(self._active)

    def check(self, checks: Any) -> None:
        """Have launches checked by `checks`."""
        self._runtime.checks = checks

    def look_at_budgets(self) -> None:
        """Have it look at the budgets now."""
        self._runtime.budgets_changed.set()

    def is_asked_to_end(self, job_id: UUID) -> bool:
        """Whether the execution of a run knows that its end is wanted."""
        request = self._runtime.cancels.get(job_id)
        return request is not None and request.is_wanted

    def tell(self, say: Callable[[str], None]) -> None:
        """Pass every line of its log to `say`."""
        logger = logging.Logger(self.name)
        logger.addHandler(_Listener(say))
        self._logger = logger
        self._record_worker_id = lambda remote_id: None  # which would make another logger

    async def show_queued(self, run: FlowRun) -> None:
        """What it does with a run that has no slot."""
        await self._waiting.show(run, "Waiting for a slot.")


class _Listener(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def state_of(run: FlowRun) -> JobState:
    assert run.state is not None
    return job_state(run.state.type.value, run.state.name or "")


class Writes:
    """What this process, in which the workers are too, has written to the Prefect server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._more = asyncio.Event()
        sends = httpx.AsyncClient.send

        async def send(client: httpx.AsyncClient, request: httpx.Request, **how: Any) -> Any:
            try:
                return await sends(client, request, **how)
            finally:
                if request.url.path.endswith("/set_state"):
                    self.count += 1
                    self._more.set()
                    self._more = asyncio.Event()

        monkeypatch.setattr(httpx.AsyncClient, "send", send)

    async def after(self, count: int) -> None:
        """Wait until there were more, or for a second: the server changes states too."""
        if self.count == count:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), timeout=1.0)


class Outage:
    """The connection to the Prefect server: it works, or fails for all when set to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: int | None = None
        """Status code of every answer, 0 for no connection; None: it works."""
        self.refused = 0
        works = httpx.AsyncHTTPTransport.handle_async_request

        async def handle(
            transport: httpx.AsyncHTTPTransport, request: httpx.Request
        ) -> httpx.Response:
            if self.failing is None:
                return await works(transport, request)
            self.refused += 1
            if self.failing == 0:
                raise httpx.ConnectError("connection refused", request=request)
            return httpx.Response(self.failing, request=request, json={"detail": "broken"})

        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)


class Running:
    """An engine that is up, as the gateway sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def connection(self) -> Connection:
        return self._connection

    async def revive(self) -> Connection:
        return self._connection
