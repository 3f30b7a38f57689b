"""Calls every tool of a server on an engine of its own. Prints what came, as JSON, in one line.

Run in a network namespace whose packets go nowhere: see `test_offline`.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from benchmarks.tool_calls import HUB_CONFIG, calls
from tests.support.jobs import quick_job
from tests.support.stack import OUMI_FLOWS


async def timed_calls(folder: Path, env: dict[str, str]) -> dict[str, Any]:
    """How long the server took to list its tools, and each of them to answer, and with what."""
    server = StdioServerParameters(command=str(OUMI_FLOWS), args=["mcp"], env=env)
    started = time.monotonic()
    async with Client(server, read_timeout_seconds=120) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        listed = time.monotonic() - started
        quick = {"config_path": "quick.yaml", "client_cwd": str(folder), "dry_run": False}
        result = await client.call_tool("run_oumi_job", quick)
        job_id = (result.structured_content or {"job_id": "none"})["job_id"]
        arguments = calls(folder, job_id)
        found: dict[str, Any] = {}
        for tool in tools:
            begun = time.monotonic()
            result = await client.call_tool(tool, arguments[tool])
            text = getattr(result.content[0], "text", "")
            found[tool] = {
                "seconds": round(time.monotonic() - begun, 2),
                "is_error": bool(result.is_error),
                "says": text if result.is_error else (result.structured_content or {})["summary"],
            }
    return {"listed_seconds": listed, "tools": found}


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "hub.yaml").write_text(HUB_CONFIG)
    quick_job(folder)
    env = {**os.environ, "OUMI_FLOWS_HOME": str(folder / "home")}
    # What the tests' isolation says is left out: nothing may rely on being told.
    env.pop("HF_HUB_OFFLINE", None)
    try:
        subprocess.run([str(OUMI_FLOWS), "up", "--wait"], env=env, check=True, capture_output=True)
        print(json.dumps(asyncio.run(timed_calls(folder, env))))
    finally:
        subprocess.run([str(OUMI_FLOWS), "down"], env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
