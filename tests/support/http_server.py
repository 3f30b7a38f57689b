"""The MCP server over HTTP, on the session's engine."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.stack import OUMI_FLOWS, Stack
from tests.support.waiting import eventually_sync


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served(NamedTuple):
    """Where a server is and what its requests must carry."""

    url: str
    token: str


@contextmanager
def served_over_http(stack: Stack, log: Path) -> Iterator[Served]:
    """Serve ``oumi-flows mcp --transport http``; its output goes to `log`."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(OUMI_FLOWS), "mcp", "--transport", "http", "--port", str(port)],
            env=dict(stack.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        eventually_sync(lambda: _ready(process, port, log), timeout=30)
        token = (Path(stack.env["OUMI_FLOWS_HOME"]) / "http-token").read_text().strip()
        yield Served(f"http://127.0.0.1:{port}/mcp", token)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
            raise


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, f"exited {process.returncode}:\n{log.read_text()}"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
