"""Nothing but JSON-RPC leaves the stdio server on stdout: the raw bytes are looked at."""

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import GREETING, quick_job
from tests.support.stack import OUMI_FLOWS, Stack


class RawServer:
    """A stdio server spoken to in bytes, so that every byte of its stdout is seen.

    Args:
        env: Its environment.
        stderr: Where its standard error goes.
    """

    def __init__(self, env: dict[str, str], stderr: Path) -> None:
        with stderr.open("wb") as errors:
            self.process = subprocess.Popen(
                [str(OUMI_FLOWS), "mcp"],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.lines: list[bytes] = []
        self._unread: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._next_id = 0

    def write(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def notify(self, method: str) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}))

    def request(self, method: str, params: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Send a request and read up to its response."""
        self._next_id += 1
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        self.write(json.dumps(request))
        while True:
            line = self._unread.get(timeout=timeout)
            assert line, f"the server left, exit code {self.process.poll()}"
            message = json.loads(line)
            if message.get("id") == self._next_id and "method" not in message:
                return message

    def call(self, tool: str, *, timeout: float = 30.0, **arguments: object) -> dict[str, Any]:
        params = {"name": tool, "arguments": arguments}
        return self.request("tools/call", params, timeout=timeout)["result"]

    def initialize(self) -> None:
        client = {"name": "raw", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self.request("initialize", params, timeout=30)
        self.notify("notifications/initialized")

    def close(self) -> int:
        """Close stdin; the exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of the process; the exit code."""
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            assert self.process.stdout
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            self._unread.put(line)
        self._unread.put(b"")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], RawServer]]:
    """Starts servers in an environment; those still alive are killed afterwards."""
    servers: list[RawServer] = []

    def start(env: Mapping[str, str]) -> RawServer:
        servers.append(RawServer(dict(env), tmp_path / "stderr"))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.ended()


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose engine was never started; stopped afterwards."""
    env = {
        **os.environ,
        "OUMI_FLOWS_HOME": str(tmp_path / "home"),
        "OUMI_FLOWS_ENGINE_TIMEOUT_SECONDS": "180",
    }
    yield env
    subprocess.run([str(OUMI_FLOWS), "down"], env=env, capture_output=True, timeout=60, check=True)


def assert_only_json_rpc(lines: list[bytes]) -> None:
    for line in lines:
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0", line


def test_stdout_carries_json_rpc_alone_from_a_cold_engine_through_a_job_and_errors_to_the_exit(
    cold: dict[str, str], started: Callable[[Mapping[str, str]], RawServer], tmp_path: Path
) -> None:
    server = started(cold)
    server.initialize()
    server.request("tools/list", {}, timeout=30)
    config = str(quick_job(tmp_path))
    job = server.call(
        "run_oumi_job", config_path=config, client_cwd=str(tmp_path), dry_run=False, timeout=120
    )
    assert not job["isError"], job
    job_id = job["structuredContent"]["job_id"]
    done = server.call("wait_for_job", job_id=job_id, timeout_seconds=120, timeout=130)
    assert done["structuredContent"]["state"] == "succeeded"
    assert GREETING in server.call("get_job_logs", job_id=job_id)["structuredContent"]["logs"]
    assert server.call("cancel_job", job_id=job_id)["isError"]
    assert server.call("get_job_status", job_id="no-such-job")["isError"]
    assert server.call("get_job_status", nonsense=1)["isError"]
    assert server.request("no/such/method", {}, timeout=30)["error"]
    server.write("this is not JSON")
    server.request("resources/list", {}, timeout=30)

    assert server.close() == 0
    assert_only_json_rpc(server.lines)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_stdio_server_silently_though_its_stdin_stays_open(
    ending: signal.Signals,
    stack: Stack,
    started: Callable[[Mapping[str, str]], RawServer],
    tmp_path: Path,
) -> None:
    server = started(stack.env)
    server.initialize()
    server.process.send_signal(ending)
    assert server.ended() == 0
    assert_only_json_rpc(server.lines)
    assert "Traceback" not in (tmp_path / "stderr").read_text()
