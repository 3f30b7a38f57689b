"""Calls every tool of a server on an engine of its own. Prints what came, as JSON, in one line.

Run in a network namespace whose packets go nowhere: see `test_offline`. With `remote` as the second
argument, SkyPilot's API server and a Slurm cluster are said to be somewhere out there.
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

REMOTE = {
    "SKYPILOT_API_SERVER_ENDPOINT": "http://sky.example.com:46580",
    "OUMI_SLURM_CONNECTIONS": "me@login.example.com",
}
JOB_CONFIG = """\
resources: {cloud: gcp, accelerators: "A100:1"}
working_dir: .
setup: |
  set -e
  pip install oumi
run: |
  set -e
  oumi train -c hub.yaml
"""


def further_calls(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Calls about what is elsewhere: the name of each, the tool and its arguments."""
    slurm = {"cloud": "slurm", "cluster_name": "me@login.example.com"}
    gcp = {"cloud": "gcp", "cluster_name": "none"}
    confirmed = {"confirm": True, "user_confirmation": "DOWN"}
    job = {"config": "job.yaml", "client_cwd": str(folder)}
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "down_cluster, confirmed": ("down_cluster", {**gcp, **confirmed}),
        "pre_flight_check of a gcp job": ("pre_flight_check", job),
        "pre_flight_check, again": ("pre_flight_check", job),
    }
    for cloud, place in (("gcp", gcp), ("slurm", slurm)):
        at = {"job_id": "1", **place}
        found |= {
            f"list_clusters of {cloud}": ("list_clusters", {"cloud": cloud}),
            f"get_job_status on {cloud}": ("get_job_status", at),
            f"get_job_logs on {cloud}": ("get_job_logs", at),
            f"adopt_job on {cloud}": ("adopt_job", {**place, "launcher_job_id": "1"}),
        }
    return found


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
        wanted = {tool: (tool, arguments[tool]) for tool in tools} | further_calls(folder)
        found: dict[str, Any] = {}
        for name, (tool, given) in wanted.items():
            begun = time.monotonic()
            result = await client.call_tool(tool, given)
            text = getattr(result.content[0], "text", "")
            found[name] = {
                "seconds": round(time.monotonic() - begun, 2),
                "is_error": bool(result.is_error),
                "says": text if result.is_error else (result.structured_content or {})["summary"],
            }
    return {"listed_seconds": listed, "tools": found}


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "hub.yaml").write_text(HUB_CONFIG)
    (folder / "job.yaml").write_text(JOB_CONFIG)
    quick_job(folder)
    remote = REMOTE if sys.argv[2:] == ["remote"] else {}
    env = {**os.environ, "OUMI_FLOWS_HOME": str(folder / "home"), **remote}
    # What the tests' isolation says is left out: nothing may rely on being told.
    env.pop("HF_HUB_OFFLINE", None)
    try:
        subprocess.run([str(OUMI_FLOWS), "up", "--wait"], env=env, check=True, capture_output=True)
        print(json.dumps(asyncio.run(timed_calls(folder, env))))
    finally:
        subprocess.run([str(OUMI_FLOWS), "down"], env=env, check=False, capture_output=True)


if __name__ == "__main__":
    main()
