"""What answers at a Prefect server's address but is none: an error that says so, never a defect."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from flows.core.prefect_states import PREFECT_STATE
from flows.core.run_labels import RunLabels
from flows.core.settings import Settings
from flows.core.states import JobState
from mcp_server.engine import Connection
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.run_filter import RunFilter
from mcp_server.services.jobs.service import JobService
from tests.engine.conftest import make_engine

JSON = "application/json"
ODD = {
    "a page": (200, "text/html", b"<html>Welcome to nginx!</html>", {}),
    "a page that is missing": (404, "text/html", b"<html>404 Not Found</html>", {}),
    "an empty answer": (200, JSON, b"", {}),
    "no content": (204, JSON, b"", {}),
    "a list": (200, JSON, b"[]", {}),
    "an object": (200, JSON, b'{"id": 7, "state": {"type": "ODD"}}', {}),
    "a list of objects": (200, JSON, b'[{"id": 7}]', {}),
    "a number of many digits": (200, JSON, b"9" * 5000, {}),
    "half of an object": (200, JSON, b'{"id": "7', {}),
    "less than it said": (200, JSON, b"[]", {"Content-Length": "99"}),
    "deep nesting": (200, JSON, b"[" * 100_000, {}),
    "a text of no encoding": (200, JSON, b'"\xff\xfe\xed\xa0\x80"', {}),
    "a broken gzip": (200, JSON, gzip.compress(b"[]")[:9], {"Content-Encoding": "gzip"}),
    "no gzip": (200, JSON, b"[]", {"Content-Encoding": "gzip"}),
    "another place": (302, "text/html", b"", {"Location": "/elsewhere"}),
    "a refusal": (405, "text/plain", b"no", {}),
    "a teapot": (418, "text/plain", b"short and stout", {}),
    "a failure": (500, "text/html", b"<html>oops</html>", {}),
}
RUN_ID = "7c459f95-9c55-451d-aabe-02d71035a5be"


class Odd(ThreadingHTTPServer):
    """Answers every request alike."""

    answer: tuple[int, str, bytes, dict[str, str]]

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        assert isinstance(self.server, Odd)
        status, kind, body, headers = self.server.answer
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Named:
    """A server that a person named, as the gateway is handed it."""

    def __init__(self, api_url: str) -> None:
        self._connection = Connection(api_url=api_url, ui_url="", embedded=False)

    async def connection(self) -> Connection:
        return self._connection

    async def revive(self) -> Connection:
        return self._connection


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest) -> Iterator[Odd]:
    with Odd(("127.0.0.1", 0), Handler) as server:
        server.answer = ODD[request.param]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_engine_says_that_it_is_no_prefect_server(odd: Odd, home: Path) -> None:
    engine = make_engine(home, environ={"PREFECT_API_URL": odd.api_url}, api_timeout_seconds=5)

    assert engine.status().problem
    assert engine.doctor()
    with pytest.raises(EngineUnavailable):
        engine.ensure()
    with pytest.raises(EngineUnavailable):
        engine.up(wait_for_worker=False)
    assert engine.down().problem


async def test_every_kind_of_call_says_that_it_is_no_prefect_server(odd: Odd, home: Path) -> None:
    gateway = PrefectGateway(Named(odd.api_url), timeout_seconds=5)
    settings = Settings(home=home)
    jobs = JobService(
        gateway, snapshots_dir=settings.snapshots_dir, records_dir=settings.records_dir
    )
    cancelling = PREFECT_STATE[JobState.CANCELLING]
    calls = (
        lambda: gateway.read_run(RUN_ID),
        lambda: gateway.filter_runs(RunFilter(), limit=1),
        lambda: gateway.set_state(RUN_ID, cancelling, message="", repeatable=True),
        lambda: gateway.create_run(
            name="x", parameters={}, tags=[], labels=RunLabels(), idempotency_key="x"
        ),
        lambda: gateway.read_logs(RUN_ID, limit=1),
        lambda: gateway.read_states(RUN_ID),
        lambda: jobs.status(RUN_ID),
    )
    answered: list[int] = []
    try:
        for number, call in enumerate(calls):
            with suppress(EngineUnavailable):
                await call()
                answered.append(number)
    finally:
        await gateway.aclose()
    # An empty list is a good answer to the three that ask for a list.
    assert answered == ([1, 4, 5] if ODD["a list"] == odd.answer else [])
