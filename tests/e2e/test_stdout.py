"""Nothing but JSON-RPC leaves the stdio server on stdout: the raw bytes are looked at."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import quick_job
from tests.support.stack import OUMI_FLOWS, Stack


class RawServer:
    """A stdio server spoken to in bytes, so that every byte of its stdout is seen."""

    def __init__(self, env: dict[str, str], stderr: Path) -> None:
        self._stderr = stderr.open("wb")
        self.process = subprocess.Popen(
            [str(OUMI_FLOWS), "mcp"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        self.lines: list[bytes] = []
        self._next_id = 0

    def send(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params or {}}))

    def write(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and read up to its response."""
        assert self.process.stdout
        self._next_id += 1
        self.write(
            json.dumps({"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params})
        )
        while True:
            line = self.process.stdout.readline()
            assert line, f"the server left, exit code {self.process.poll()}"
            self.lines.append(line)
            message = json.loads(line)
            if message.get("id") == self._next_id and "method" not in message:
                return message

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        return self.request("tools/call", {"name": tool, "arguments": arguments})["result"]

    def close(self) -> int:
        """Close stdin, read what is left and return the exit code."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.lines += self.process.stdout.readlines()
        code = self.process.wait(timeout=20)
        self._stderr.close()
        return code


@pytest.fixture
def initialize() -> dict[str, Any]:
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }


@pytest.fixture
def cold_home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose engine has never been started; stopped afterwards."""
    env = {**os.environ, "OUMI_FLOWS_HOME": str(tmp_path / "home")}
    yield env
    subprocess.run([str(OUMI_FLOWS), "down"], env=env, capture_output=True, timeout=60, check=False)


def assert_only_json_rpc(lines: list[bytes]) -> None:
    for line in lines:
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0", line


def test_stdout_carries_json_rpc_alone_from_a_cold_engine_through_a_job_and_errors_to_the_exit(
    cold_home: dict[str, str], initialize: dict[str, Any], tmp_path: Path
) -> None:
    server = RawServer(cold_home, tmp_path / "stderr")
    server.request("initialize", initialize)
    server.send("notifications/initialized")
    server.request("tools/list", {})
    started = server.call(
        "run_oumi_job",
        config_path=str(quick_job(tmp_path)),
        client_cwd=str(tmp_path),
        dry_run=False,
    )
    assert not started["isError"], started
    job_id = started["structuredContent"]["job_id"]
    done = server.call("wait_for_job", job_id=job_id, timeout_seconds=120)
    assert done["structuredContent"]["state"] == "succeeded"
    assert server.call("get_job_logs", job_id=job_id)["structuredContent"]["logs"]
    assert server.call("cancel_job", job_id=job_id)["isError"]
    assert server.call("get_job_status", job_id="no-such-job")["isError"]
    assert server.call("get_job_status", nonsense=1)["isError"]
    assert server.request("no/such/method", {})["error"]
    server.write("this is not JSON")
    server.request("resources/list", {})

    assert server.close() == 0
    assert_only_json_rpc(server.lines)


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_stdio_server_quickly_and_silently(
    ending: str, stack: Stack, initialize: dict[str, Any], tmp_path: Path
) -> None:
    import signal

    server = RawServer(dict(stack.env), tmp_path / "stderr")
    server.request("initialize", initialize)
    server.process.send_signal(getattr(signal, ending))
    server.process.wait(timeout=10)
    server.close()
    assert_only_json_rpc(server.lines)
    assert "Traceback" not in (tmp_path / "stderr").read_text()
