"""MCP server: spawn to the answer of tools/list, and memory when idle.

Ours, a bare server of the same SDK, and oumi-mcp 0.9 in a virtual environment of its own, in
turns. All are spoken to in raw JSON-RPC, so no client adds to the times.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.support import BIN, OUMI_FLOWS, OURS, REPOSITORY, Bench, Report, main, warm_engine

PEER = REPOSITORY / ".cache" / "peer"
PEER_NAME = "oumi-mcp 0.9"
PEER_TURNS = (1, 2)
IDLE_SECONDS = 3.0

BARE = "bare SDK server"
BARE_SERVER = """\
from mcp.server import MCPServer

server = MCPServer("bare")


@server.tool()
def ping() -> str:
    return "pong"


server.run("stdio")
"""


def measure(report: Report, runs: int) -> None:
    peer = install_peer()
    with warm_engine() as made:
        bare = made.folder / "bare.py"
        bare.write_text(BARE_SERVER)
        programs = {
            OURS: [str(OUMI_FLOWS), "mcp"],
            BARE: [sys.executable, str(bare)],
            PEER_NAME: [str(peer)],
        }
        times: dict[str, list[float]] = {who: [] for who in programs}
        sizes: dict[str, list[float]] = {who: [] for who in programs}
        for turn in range(runs + 1):
            for who, command in programs.items():
                if who == PEER_NAME and turn not in PEER_TURNS:
                    continue
                seconds, mib = start(made, command)
                if turn:  # the first start of each fills the page cache
                    times[who].append(seconds)
                    sizes[who].append(mib)
        ratios = [a / b for a, b in zip(times[OURS], times[BARE], strict=True)]
    for who, values in times.items():
        target = "<= 1.5x bare" if who == OURS else ""
        report.add("stdio spawn to tools/list", who, values, "s", target)
    report.add("stdio spawn to tools/list", "ours / bare", ratios, "x", "<= 1.5x")
    for who, values in sizes.items():
        report.add("MCP server RSS, idle", who, values, "MiB", "<= 124" if who == OURS else "")


def install_peer() -> Path:
    """Install oumi-mcp if it is not yet; its command."""
    command = PEER / "bin" / "oumi-mcp"
    if not command.exists():
        python = ["--python", str(PEER / "bin" / "python")]
        install = ["pip", "install", "-q", "--compile-bytecode", *python, "oumi[mcp]==0.9"]
        for arguments in (
            ["venv", "-q", "--clear", "--python", sys.executable, str(PEER)],
            install,
        ):
            subprocess.run([str(BIN / "uv"), *arguments], check=True)
    return command


def start(made: Bench, command: list[str]) -> tuple[float, float]:
    """Seconds from the spawn to the tools, and the memory in MiB some time later."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=made.env,
        cwd=made.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        handshake = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        }
        request(process, 1, "initialize", handshake)
        send(process, {"method": "notifications/initialized"})
        answer = request(process, 2, "tools/list", {})
        seconds = time.perf_counter() - started
        if not answer["result"]["tools"]:
            raise RuntimeError(f"{command[0]} has no tools")
        time.sleep(IDLE_SECONDS)
        return seconds, memory_of(process.pid)
    finally:
        process.kill()
        process.communicate()


def memory_of(pid: int) -> float:
    """Resident memory of a process and its children in MiB."""
    parent = psutil.Process(pid)
    return sum(p.memory_info().rss for p in [parent, *parent.children(recursive=True)]) / 2**20


def send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()


def request(
    process: subprocess.Popen[bytes], number: int, method: str, params: dict[str, Any]
) -> dict[str, Any]:
    """The answer to a request; whatever else comes first is passed over."""
    assert process.stdout
    send(process, {"id": number, "method": method, "params": params})
    for line in process.stdout:
        if not line.startswith(b"{"):
            continue
        message = json.loads(line)
        if message.get("id") == number and "method" not in message:
            return message
    raise RuntimeError(f"the server left with {process.wait()}")


if __name__ == "__main__":
    main("server_start", __doc__, measure, runs=7)
