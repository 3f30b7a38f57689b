"""One box over ssh: the client's command is `ssh box oumi-flows mcp`."""

import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from mcp import Client, StdioServerParameters

from tests.support.jobs import job_config
from tests.support.mcp_client import Session
from tests.support.ssh_box import SshBox, ssh_box
from tests.support.stack import OUMI_FLOWS, Stack
from tests.support.waiting import eventually

# `make test-cluster` installs sshd.
pytestmark = [pytest.mark.engine, pytest.mark.cluster]


@pytest.fixture
def box(stack: Stack, tmp_path: Path) -> Iterator[SshBox]:
    ours = {
        name: value
        for name, value in stack.env.items()
        if name.startswith(("OUMI_FLOWS_", "PREFECT_")) or name == "HOME"
    }
    with ssh_box(tmp_path / "ssh", ours) as made:
        yield made


@asynccontextmanager
async def laptop(box: SshBox, *words: str) -> AsyncGenerator[Session]:
    """A client whose server is at the other end of an ssh connection."""
    command, *arguments = box.ssh
    server = StdioServerParameters(command=command, args=[*arguments, *words])
    async with Client(server, read_timeout_seconds=90) as client:
        yield Session(client)


def servers_of(box: SshBox) -> list[int]:
    """The MCP servers that the box runs for its sessions."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-2:] == [str(OUMI_FLOWS), "mcp"]
        and process.pid in {child.pid for child in box.daemon.children(recursive=True)}
    ]


async def test_a_client_drives_a_box_over_ssh(box: SshBox, tmp_path: Path) -> None:
    config = job_config(tmp_path, "over-ssh", "echo it runs; sleep 600")
    async with laptop(box, str(OUMI_FLOWS), "mcp") as session:
        machine = socket.gethostname()
        instructions = session.client.instructions or ""
        assert f"runs on {machine}, reached over ssh" in instructions
        assert f"ssh -N -L PORT:127.0.0.1:PORT {machine}" in instructions
        job_id = await session.submit(config)
        await session.wait(job_id, "running")
        elsewhere = {"config_path": "train.yaml", "client_cwd": "/Users/me/project"}
        refused = await session.client.call_tool("run_oumi_job", elsewhere)
        assert refused.is_error
        (said,) = refused.content
        assert f"'/Users/me/project' does not exist on {machine}, where this server runs" in str(
            said
        )
        absolute = {"config_path": "/Users/me/train.yaml", "client_cwd": str(tmp_path)}
        refused = await session.client.call_tool("run_oumi_job", absolute)
        (said,) = refused.content
        assert f"there is no file /Users/me/train.yaml on {machine}" in str(said)
        status = await session.call("get_job_status", job_id=job_id)
        assert status["state"] == "running"
        await session.call("cancel_job", job_id=job_id)


async def test_a_cut_connection_ends_the_server_and_nothing_else(
    box: SshBox, tmp_path: Path
) -> None:
    config = job_config(tmp_path, "cut", "sleep 600")
    async with laptop(box, str(OUMI_FLOWS), "mcp") as session:
        job_id = await session.submit(config)
        await session.wait(job_id, "running")
        (server,) = servers_of(box)
        box.cut()
        await eventually(lambda: not psutil.pid_exists(server), timeout=30)
    async with laptop(box, str(OUMI_FLOWS), "mcp") as session:
        assert (await session.call("get_job_status", job_id=job_id))["state"] == "running"
        await session.call("cancel_job", job_id=job_id, force=True)
        assert (await session.wait(job_id))["state"] == "cancelled"


async def test_what_a_login_script_prints_is_survived(box: SshBox) -> None:
    script = f"echo Welcome to the box; echo; exec {OUMI_FLOWS} mcp"
    async with laptop(box, script) as session:
        tools = await session.client.list_tools()
        assert "run_oumi_job" in {tool.name for tool in tools.tools}
