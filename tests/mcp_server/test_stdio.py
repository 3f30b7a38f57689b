"""The stdio server as a client starts it: a process with a wire."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.mcp_server.prefect_stub import PrefectServer

REPOSITORY = Path(__file__).parents[2]
INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Wire:
    """A stdio server and the lines it has written."""

    def __init__(self, port: int, *arguments: str, stderr: Path) -> None:
        self.stderr = stderr
        self._log = stderr.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mcp_server.serve_stub", "stdio", str(port), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=REPOSITORY,
        )
        self.lines: list[dict[str, Any]] = []
        self._next_id = 0

    def initialize(self) -> None:
        self.request("initialize", INITIALIZE)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The whole answer to a request."""
        self._next_id += 1
        self.send({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params or {}})
        while True:
            line = self.read_line()
            if line.get("id") == self._next_id:
                return line

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.request("tools/call", {"name": tool, "arguments": arguments})["result"]

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def read_line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr.read_text()
        self.lines.append(json.loads(line))
        return self.lines[-1]

    def leave(self) -> int:
        """Close standard input; the exit code, after reading what is left on the wire."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.ended()

    def ended(self) -> int:
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.lines += [json.loads(line) for line in rest.splitlines()]
        return self.process.wait(timeout=20)

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Start = Callable[..., Wire]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    wires: list[Wire] = []

    def start(port: int = 0, *arguments: str) -> Wire:
        wires.append(Wire(port, *arguments, stderr=tmp_path / f"stderr-{len(wires)}"))
        return wires[-1]

    yield start
    for wire in wires:
        wire.close()


def test_the_wire_carries_json_rpc_and_nothing_else_and_the_server_is_light(
    start: Start, prefect: PrefectServer, config: Path
) -> None:
    wire = start(prefect.port)
    wire.initialize()
    tools = {tool["name"] for tool in wire.request("tools/list")["result"]["tools"]}
    assert {"run_oumi_job", "wait_for_job", "get_started"} <= tools
    run = {"config_path": str(config), "client_cwd": "/"}
    job = wire.call("run_oumi_job", **run, dry_run=False)["structuredContent"]
    listed = wire.call("list_jobs")["structuredContent"]["jobs"]
    assert job["job_id"] in [row["job_id"] for row in listed]
    assert wire.call("list_jobs", limt=1)["isError"] is True
    wire.send({"jsonrpc": "2.0", "id": "x", "method": "no/such/method"})
    assert psutil.Process(wire.process.pid).memory_info().rss <= 130 * 2**20
    assert wire.leave() == 0
    assert all(line["jsonrpc"] == "2.0" for line in wire.lines)
    assert "stray words" in wire.stderr.read_text()


def test_the_server_ends_when_its_client_leaves_though_the_engine_is_not_up(
    start: Start,
) -> None:
    wire = start(0)
    wire.initialize()
    began = time.monotonic()
    assert wire.leave() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_at_once(
    start: Start, prefect: PrefectServer, number: signal.Signals
) -> None:
    wire = start(prefect.port)
    wire.initialize()
    began = time.monotonic()
    wire.process.send_signal(number)
    assert wire.ended() == 0
    assert time.monotonic() - began < 5
    assert "Traceback" not in wire.stderr.read_text()


def test_the_handshake_does_not_wait_for_the_engine_nor_a_signal_for_a_call(start: Start) -> None:
    wire = start(0)
    wire.initialize()
    assert wire.request("tools/list")["result"]["tools"]
    assert wire.call("get_started")["structuredContent"]["summary"]
    call = {"name": "list_jobs", "arguments": {}, "_meta": {"progressToken": "t"}}
    wire.send({"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": call})
    message = wire.read_line()
    assert message["method"] == "notifications/progress"
    assert message["params"]["progressToken"] == "t"
    wire.process.terminate()
    assert wire.ended() == 0


BAD_LINES = {
    "broken JSON": b'{"jsonrpc": "2.0", "id": 1',
    "no JSON": b"\xff\xfe",
    "deep nesting": b"[" * 20_000,
    "deep nesting, closed": b'{"jsonrpc":"2.0","id":1,"method":"x","params":'
    + b'{"a":' * 5000
    + b"1"
    + b"}" * 5001,
    "a lone surrogate": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}',
    "bytes that are not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xff"}}',
    "a batch": b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    "a number": b"12",
    "an integer of 5,000 digits": b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":'
    + b"9" * 5000
    + b"}}",
    "a line of 5 MB": b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"'
    + b"x" * 5_000_000
    + b'"}}',
}


@pytest.mark.parametrize("era", ["handshake", "per request"])
def test_lines_that_are_no_message_are_answered_and_the_server_goes_on(
    start: Start, era: str
) -> None:
    wire = start(0)
    if era == "handshake":
        wire.initialize()
    assert wire.process.stdin is not None
    for what, line in BAD_LINES.items():
        wire.process.stdin.write(b"\n  \n" + line + b"\n")
        wire.process.stdin.flush()
        answer = wire.read_line()
        assert (answer["id"], answer["error"]["code"]) == (None, -32700), what
    for line, number in ((b"{}", None), (b'{"id": 7, "method": 3}', 7)):
        wire.process.stdin.write(line + b"\n")
        wire.process.stdin.flush()
        answer = wire.read_line()
        assert (answer["id"], answer["error"]["code"]) == (number, -32600)
    if era == "handshake":
        assert wire.call("get_started")["structuredContent"]["summary"]
    else:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        tools = wire.request("tools/list", {"_meta": meta})
        assert tools["result"]["tools"]
    assert wire.leave() == 0
