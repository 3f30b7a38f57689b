"""Catalogue: calls of the tools on a folder of 600 configs.

Ours and oumi-mcp 0.9 in a virtual environment of its own, on the same folder, spoken to in raw
JSON-RPC. The folder has our own recipes seven times over, so what is found is the same each time.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.server_start import PEER_NAME, install_peer, request, send
from benchmarks.support import OUMI_FLOWS, OURS, REPOSITORY, Bench, Report, bench, main

CONFIGS = 600
RECIPES = REPOSITORY / "mcp_server" / "recipes"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "search_configs, terms": ("search_configs", {"query": ["llama3", "lora"]}),
    "search_configs, a misspelling": ("search_configs", {"query": ["lamma3", "qlora"]}),
    "search_configs, content_match": ("search_configs", {"content_match": ["lora_r: 16", "qwen"]}),
    "search_configs, everything": ("search_configs", {}),
    "list_categories": ("list_categories", {}),
    "get_config": ("get_config", {"path": "recipes/0/llama3.1/8b_sft_lora.yaml"}),
}
Ask = Callable[[str, Any], dict[str, Any]]
TARGET = "p50 <= 20 ms"


def measure(report: Report, runs: int) -> None:
    peer = install_peer()
    # No engine: neither needs one for these tools.
    with bench(PREFECT_API_URL="http://127.0.0.1:9/api") as made:
        folder = made.folder / "configs"
        fill(folder)
        made.env["OUMI_FLOWS_CONFIGS_DIR"] = made.env["OUMI_MCP_CONFIGS_DIR"] = str(folder)
        for who, command in {OURS: [str(OUMI_FLOWS), "mcp"], PEER_NAME: [str(peer)]}.items():
            with_server(made, command, lambda ask, who=who: calls(report, who, counted(ask), runs))


def fill(folder: Path) -> None:
    """Make a folder of 600 configs."""
    recipes = sorted(RECIPES.rglob("*.yaml"))
    for number in range(CONFIGS):
        recipe = recipes[number % len(recipes)]
        copy = folder / "recipes" / str(number // len(recipes)) / recipe.relative_to(RECIPES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipe, copy)


def calls(report: Report, who: str, call: Callable[[str, Any], Any], runs: int) -> None:
    """Time each call, and the first of all, which reads the folder."""
    seconds, _ = timed(lambda: call("search_configs", {"query": ["qwen"]}))
    report.add("the first search", who, [seconds * 1000], "ms")
    for what, (tool, arguments) in CALLS.items():
        times = [timed(lambda t=tool, a=arguments: call(t, a))[0] * 1000 for _ in range(runs)]
        report.add(what, who, times, "ms", TARGET if who == OURS else "")
    for words in (["llama3", "lora"], ["lamma3", "qlora"], ["fine-tune", "llama", "3.1"]):
        found = call("search_configs", {"query": words, "limit": 100})
        report.add(f"found for {' '.join(words)}", who, [found], "configs")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def counted(ask: Ask) -> Callable[[str, Any], int]:
    """Calls that give the number of configs in their answers."""

    def call(tool: str, arguments: Any) -> int:
        content = ask(tool, arguments)
        return content.get("total", len(content.get("configs", content.get("result", []))))

    return call


def with_server(made: Bench, command: list[str], use: Callable[[Ask], None]) -> None:
    """Use a server's tools."""
    process = subprocess.Popen(
        command,
        env=made.env,
        cwd=made.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    number = 1

    def ask(tool: str, arguments: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        answer = request(process, number, "tools/call", {"name": tool, "arguments": arguments})
        result = answer["result"]
        if result.get("isError"):
            raise RuntimeError(result["content"][0]["text"])
        return result.get("structuredContent") or json.loads(result["content"][0]["text"])

    try:
        handshake = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        }
        request(process, 1, "initialize", handshake)
        send(process, {"method": "notifications/initialized"})
        use(ask)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main("catalogue", __doc__, measure, runs=50)
