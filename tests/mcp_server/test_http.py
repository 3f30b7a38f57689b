"""The streamable HTTP server: who is let in, and how it stops."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.cli.serve import show_how_to_connect
from mcp_server.transports.http import BearerGate, HttpServer, is_loopback, transport_security
from mcp_server.transports.http_token import http_token, token_path
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer
from tests.mcp_server.test_arguments import no_engine
from tests.mcp_server.test_stdio import INITIALIZE, REPOSITORY

TOKEN = "a long random text"


class Served:
    """An HTTP server in a process of its own."""

    def __init__(self, port: int, host: str, home: Path, stderr: Path, **environment: str) -> None:
        self.stderr = stderr
        self._log = stderr.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mcp_server.serve_stub", "http", str(port), host, "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "OUMI_FLOWS_HOME": str(home), **environment},
            cwd=REPOSITORY,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = ""
        while not self.url.startswith("http"):
            self.url = self.process.stdout.readline().strip()
            assert self.process.poll() is None, stderr.read_text()
        self.url = self.url.replace("0.0.0.0", "127.0.0.1")
        path = home / "http-token"
        self.token = environment.get("OUMI_FLOWS_HTTP_TOKEN") or path.read_text().strip()
        self.bearer = {"Authorization": f"Bearer {self.token}"}

    def post(self, **headers: str) -> httpx2.Response:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        accept = {"Accept": "application/json, text/event-stream"}
        return httpx2.post(self.url, json=body, headers=accept | headers, timeout=20)

    def close(self) -> None:
        self._log.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


Serve = Callable[..., Served]


@pytest.fixture
def serve(prefect: PrefectServer, tmp_path: Path) -> Iterator[Serve]:
    running: list[Served] = []

    def serve(host: str = "127.0.0.1", **environment: str) -> Served:
        stderr = tmp_path / f"stderr-{len(running)}"
        running.append(Served(prefect.port, host, tmp_path / "home", stderr, **environment))
        return running[-1]

    yield serve
    for served in running:
        served.close()


async def test_clients_of_both_eras_work_over_http_and_host_and_origin_are_checked(
    serve: Serve,
) -> None:
    served = serve()
    for mode in ("auto", "legacy"):
        http = httpx2.AsyncClient(headers=served.bearer, timeout=20)
        transport = streamable_http_client(served.url, http_client=http)
        async with http, Client(transport, mode=mode) as client:
            assert (await ok(client, "list_jobs"))["summary"]
    bearer = served.bearer
    assert served.post(**bearer).status_code == 200
    assert served.post(**bearer, Origin="http://localhost:3000").status_code == 200
    assert served.post(**bearer, Host="evil.example").status_code == 421
    assert served.post(**bearer, Host="evil.example:80").status_code == 421
    assert served.post(**bearer, Origin="https://evil.example").status_code == 403
    assert served.post(**bearer, Origin="null").status_code == 403


def test_a_token_is_made_once_and_asked_for_on_the_loopback(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    path = tmp_path / "home/http-token"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(served.token) >= 32
    assert served.post().status_code == 401
    assert served.post(Authorization="Bearer").status_code == 401
    assert served.post(**served.bearer).status_code == 200
    assert serve().token == served.token


def test_a_token_that_is_set_is_asked_for_on_the_loopback_too(serve: Serve) -> None:
    served = serve(OUMI_FLOWS_HTTP_TOKEN=TOKEN)
    refused = served.post()
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"):
        assert served.post(Authorization=wrong).status_code == 401
    for right in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
        assert served.post(Authorization=right).status_code == 200
    assert TOKEN not in served.stderr.read_text()


def test_on_every_address_token_host_and_origin_are_checked(serve: Serve) -> None:
    served = serve(
        "0.0.0.0",
        OUMI_FLOWS_HTTP_TOKEN=TOKEN,
        OUMI_FLOWS_HTTP_ALLOWED_HOSTS="mcp.example, other.example",
    )
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert served.post().status_code == 401
    assert served.post(**bearer).status_code == 200
    assert served.post(**bearer, Host="mcp.example").status_code == 200
    assert served.post(**bearer, Host=f"{socket.gethostname()}:80").status_code == 200
    assert served.post(**bearer, Origin="https://other.example").status_code == 200
    assert served.post(**bearer, Host="evil.example").status_code == 421
    assert served.post(**bearer, Origin="https://evil.example").status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_without_a_token_is_refused(settings: Settings, host: str) -> None:
    with pytest.raises(InvalidArgument, match="needs a bearer token"):
        http_server(settings, host=host)


@pytest.mark.parametrize(
    ("token", "fault"),
    [
        (" ", "is blank"),
        ("\t \n", "is blank"),
        ("x", "has 1 characters"),
        ("fifteen-letters", "has 15 characters"),
        ("a-token-that-is-long-enough ", "white space at an end"),
        ("a-token-that-is-long\nenough", "HTTP header cannot carry"),
        ("a-token-with-an-umlaut-ä", "HTTP header cannot carry"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_token_that_is_blank_short_or_cannot_be_sent_is_refused(
    settings: Settings, host: str, token: str, fault: str
) -> None:
    with pytest.raises(InvalidArgument, match=fault):
        http_server(settings.model_copy(update={"http_token": token}), host=host)


@pytest.mark.parametrize("known", ["", "short", " " * 40])
def test_a_token_file_that_was_cut_short_is_made_again(settings: Settings, known: str) -> None:
    path = token_path(settings)
    path.parent.mkdir(mode=0o700)
    path.write_text(known)
    path.chmod(0o600)
    assert len(http_token(settings)) >= 32
    assert http_token(settings) == path.read_text().strip()


def test_a_token_that_others_could_read_is_replaced(settings: Settings) -> None:
    seen = http_token(settings)
    token_path(settings).chmod(0o644)
    assert http_token(settings) != seen
    assert stat.S_IMODE(token_path(settings).stat().st_mode) == 0o600


def test_processes_that_start_together_make_one_token(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(lambda _: http_token(settings), range(32)))
    assert len(tokens) == 1


async def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def fail(*_: Any) -> Any:
        pytest.fail("was passed on")

    await BearerGate(fail, TOKEN)({"type": "websocket", "headers": []}, fail, send)
    assert sent == [{"type": "websocket.close"}]


def test_the_command_prints_the_token_and_the_line_to_paste(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    show_how_to_connect(settings, "http://127.0.0.1:8765/mcp")
    printed = capsys.readouterr().out
    token = token_path(settings).read_text().strip()
    assert f"  Authorization: Bearer {token}\n" in printed
    assert (
        "claude mcp add --transport http oumi-flows http://127.0.0.1:8765/mcp "
        f'--header "Authorization: Bearer {token}"\n'
    ) in printed


def test_a_token_that_is_set_is_not_printed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    show_how_to_connect(settings.model_copy(update={"http_token": TOKEN}), "http://x/mcp")
    printed = capsys.readouterr().out
    assert TOKEN not in printed
    assert "Bearer $OUMI_FLOWS_HTTP_TOKEN" in printed


def test_a_port_that_is_taken_is_refused(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidArgument, match="cannot be opened"):
            http_server(settings, port=taken.getsockname()[1])


def http_server(settings: Settings, **changes: Any) -> HttpServer:
    given = {"host": "127.0.0.1", "port": 0, "read_only": False, "toolsets": ()}
    return HttpServer(settings, no_engine, **(given | changes))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_though_a_stream_is_open(
    serve: Serve, number: signal.Signals
) -> None:
    served = serve()
    async with httpx2.AsyncClient(headers=served.bearer) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        accept = {"Accept": "application/json, text/event-stream"}
        opened = await http.post(served.url, json=body, headers=accept)
        session = {**accept, "mcp-session-id": opened.headers["mcp-session-id"]}
        async with http.stream("GET", served.url, headers=session) as stream:
            assert stream.status_code == 200
            began = time.monotonic()
            served.process.send_signal(number)
            assert served.process.wait(timeout=20) == 0
            assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("example.org", False),
    ],
)
def test_what_is_loopback(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_ipv6_address_is_let_in_by_its_bracketed_form() -> None:
    hosts = transport_security("2001:db8::1", "").allowed_hosts
    assert {"[2001:db8::1]", "[2001:db8::1]:*", "[::1]:*"} <= set(hosts)
