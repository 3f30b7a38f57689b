import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from flows.core.settings import Settings
from mcp_server.cli.edge import run_guarded
from mcp_server.cli.output import Output
from mcp_server.cli.terminal import build_app, run
from tests.cli.fakes import FakeBackend, FakeEngine, FakeJobs


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


class Terminal:
    """Runs commands on fakes."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.backend = FakeBackend()

    @property
    def jobs(self) -> FakeJobs:
        return self.backend.service

    @property
    def engine(self) -> FakeEngine:
        return self.backend.control

    def __call__(self, *arguments: str) -> Done:
        code = run_guarded(partial(self._run, arguments=arguments), as_json="--json" in arguments)
        out, err = self._capsys.readouterr()
        return Done(code=int(code), out=out, err=err)

    def _run(self, settings: Settings, *, arguments: tuple[str, ...]) -> int:
        return run(build_app(self.backend, Output(), settings), arguments)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes rich believe that a person looks on."""

    def believe() -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "120")

    return believe
