"""Commands on the real use cases, over a Prefect server whose worker the tests stand in for."""

import json
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from flows.core.errors import Conflict
from flows.core.settings import Settings
from mcp_server.cli.backend import Backend
from mcp_server.cli.edge import run_guarded
from mcp_server.cli.output import Output
from mcp_server.cli.terminal import build_app, run
from mcp_server.engine import Engine, EngineFinding, EngineStatus, ServerStatus, WorkerStatus
from mcp_server.engine_keeper import Report
from mcp_server.prefect_api.connections import EngineSource
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, RunState
from mcp_server.services.assembly import Services, make_services
from tests.mcp_server.prefect_stub import PrefectServer

CONFIG = "model:\n  model_name: tiny\ntraining:\n  max_steps: 5\n  output_dir: out\n"
UP = EngineStatus(
    summary="Prefect 3.8.8 answers at http://127.0.0.1:4200/api; the worker is ready",
    embedded=True,
    api_url="http://127.0.0.1:4200/api",
    ui_url="http://127.0.0.1:4200",
    auth_path="/home/me/.oumi-flows/engine/auth",
    server=ServerStatus(pid=7, alive=True, healthy=True, version="3.8.8", rss_bytes=2**20),
    worker=WorkerStatus(name="w", pid=8, alive=True, online=True, warm=True, rss_bytes=2**21),
    deployed=True,
    version="0.1.0",
)

Step = Callable[[str], object]
"""What happens to a job, given its id."""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The last line on standard error, which is JSON."""
        return json.loads(self.err.splitlines()[-1])["error"]


@dataclass
class TestsEngine:
    """The tests' Prefect server, as if it were this machine's engine."""

    __test__ = False

    server: Callable[[], PrefectServer]
    now: EngineStatus = UP
    found: list[EngineFinding] = field(default_factory=list[EngineFinding])
    error: BaseException | None = None
    brought_up: bool = False
    waited: bool = False
    kept: bool = False

    def ensure(self, *, report: Report) -> PrefectServer:
        del report
        self.brought_up = True
        if self.error:
            raise self.error
        return self.server()

    def running(self) -> None:
        """Nothing runs until a command brings it up."""

    def keep(self) -> None:
        self.kept = True

    def up(self, *, wait_for_worker: bool, report: Report) -> EngineStatus:
        report("Starting the Prefect server")
        if self.error:
            raise self.error
        self.waited = wait_for_worker
        return self.now

    def down(self) -> EngineStatus:
        return self.now

    def status(self) -> EngineStatus:
        return self.now

    def doctor(self) -> list[EngineFinding]:
        return self.found


class TestsGateway(PrefectGateway):
    """Prefect's API, on which things happen meanwhile.

    Args:
        engine: Where the Prefect server is.
        steps: What happens to a job before each read of it alone, in this order.
        refused: Jobs whose state cannot be changed.
    """

    __test__ = False

    def __init__(self, engine: EngineSource, *, steps: list[Step], refused: Set[str]) -> None:
        super().__init__(engine, timeout_seconds=20)
        self._steps = steps
        self._refused = refused

    async def read_run(self, run_id: str) -> FlowRun:
        if self._steps:
            self._steps.pop(0)(run_id)
        return await super().read_run(run_id)

    async def set_state(self, run_id: str, *args: Any, **kwargs: Any) -> RunState:
        if run_id in self._refused:
            raise Conflict("It was refused", "Try again")
        return await super().set_state(run_id, *args, **kwargs)


class Terminal:
    """Runs commands.

    Attributes:
        steps: What happens before each read of one job, in this order.
        refused: Jobs whose state cannot be changed.
        services: Makes use cases that replace the real ones, by name.
    """

    def __init__(
        self, capsys: pytest.CaptureFixture[str], server: Callable[[], PrefectServer]
    ) -> None:
        self._capsys = capsys
        self.engine = TestsEngine(server)
        self.steps: list[Step] = []
        self.refused: set[str] = set()
        self.services: dict[str, Callable[[PrefectGateway], object]] = {}

    @property
    def prefect(self) -> PrefectServer:
        return self.engine.server()

    def __call__(self, *arguments: str) -> Done:
        code = run_guarded(partial(self._run, arguments=arguments), as_json="--json" in arguments)
        out, err = self._capsys.readouterr()
        return Done(code=int(code), out=out, err=err)

    def submit(self, *options: str, config: str = "tiny.yaml") -> str:
        """Start a job; return its id."""
        done = self("run", config, *options)
        assert done.code == 0, done.err
        return done.out.strip()

    def request(self, job_id: str) -> dict[str, Any]:
        """The request of a job as Prefect has it."""
        return self.prefect.read_run(job_id)["parameters"]["request"]

    def into(self, *states: str, message: str | None = None) -> Step:
        """A step that puts a job into states."""
        return lambda job_id: self.prefect.set_states(job_id, *states, message=message)

    def _run(self, settings: Settings, *, arguments: tuple[str, ...]) -> int:
        output = Output()
        engine = cast("Engine", self.engine)
        backend = Backend(settings, engine, output, make=self._make)
        return run(build_app(backend, output, settings), arguments)

    def _make(self, settings: Settings, engine: EngineSource) -> Services:
        gateway = TestsGateway(engine, steps=self.steps, refused=self.refused)
        services = make_services(settings, gateway, fetches=False)
        changed: Any = {name: make(gateway) for name, make in self.services.items()}
        return replace(services, **changed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a training config."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    folder: Path,
    request: pytest.FixtureRequest,
) -> Terminal:
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home"))
    # Many commands need no server.
    return Terminal(capsys, lambda: request.getfixturevalue("prefect"))


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes rich believe that a person looks on."""

    def believe() -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")

    return believe
