"""Train a tiny model offline, submitted through the MCP server by a real MCP client.

    make demo

or `python examples/demo.py [FOLDER]`, where FOLDER holds model, data and runs (default: .demo).
Starts the embedded engine, makes the model and the data, shows the plan, submits `oumi train`,
follows it live and says where everything is. Exits 0 only if the run Completed.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from mcp import Client, MCPError, StdioServerParameters
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

EXAMPLES = Path(__file__).resolve().parent
OUMI_FLOWS = Path(sys.executable).with_name("oumi-flows")
LIMIT_SECONDS = 900
_LOSS = re.compile(r"'loss': '?([0-9.eE+-]+)")


class DemoFailed(Exception):
    """Something the demo needs did not work; the message says what."""


class Bar(Protocol):
    """Shows how far something is."""

    def __call__(self, done: float, total: float | None, message: str) -> None: ...


async def main(folder: Path, console: Console) -> bool:
    """Run the demo; whether the training run Completed."""
    with step(console, "Make a 97,000-parameter model and 400 conversations, offline"):
        await asyncio.to_thread(make_workload, folder)
    server = StdioServerParameters(command=str(OUMI_FLOWS), args=["mcp"], env=dict(os.environ))
    async with Client(server, read_timeout_seconds=LIMIT_SECONDS) as client:
        console.print(f"[green]✓[/] An MCP client speaks to `{OUMI_FLOWS.name} mcp` over stdio")
        try:
            return await train(client, folder, console)
        except (DemoFailed, MCPError) as error:
            console.print(f"[red]{error}[/]", soft_wrap=True)
            return False


def make_workload(folder: Path) -> None:
    """Put config, model and data into `folder`, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "tiny" / "train.yaml", folder)
    if (folder / "data" / "infer.jsonl").exists():
        return
    made = subprocess.run(
        [sys.executable, str(EXAMPLES / "tiny" / "make_tiny.py"), "data"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise DemoFailed(f"The model was not made:\n{made.stderr}")


async def train(client: Client, folder: Path, console: Console) -> bool:
    """Submit `oumi train`, follow it to its end and report; whether it Completed."""
    output_dir = folder / "runs" / time.strftime("train-%Y%m%d-%H%M%S")
    request = {
        "config_path": "train.yaml",
        "client_cwd": str(folder),
        "command": "train",
        "job_name": "demo",
        "overrides": {"training.output_dir": str(output_dir)},
    }
    with step(console, "Start the engine: a Prefect server and one worker"):
        plan = await call(client, "run_oumi_job", request)
    console.print(f"  [dim]dry run:[/] {plan['summary']}", soft_wrap=True)
    job = await call(client, "run_oumi_job", {**request, "dry_run": False})
    console.print(f"[green]✓[/] Submitted, job {job['job_id']}")
    console.print(f"  [dim]{job['url']}[/]", soft_wrap=True)
    status = await follow(client, job["job_id"], console)
    report(console, status, await losses_of(client, job["job_id"]))
    return status["state"] == "succeeded"


async def call(
    client: Client, tool: str, arguments: dict[str, Any], bar: Bar | None = None
) -> dict[str, Any]:
    """The structured answer of a tool.

    Raises:
        DemoFailed: The call failed; carries the server's one-line error.
    """

    async def show(done: float, total: float | None, message: str | None) -> None:
        if bar:
            bar(done, total, message or "")

    result = await client.call_tool(tool, arguments, progress_callback=show)
    if result.is_error or result.structured_content is None:
        raise DemoFailed(getattr(result.content[0], "text", f"{tool} failed"))
    return result.structured_content


async def follow(client: Client, job_id: str, console: Console) -> dict[str, Any]:
    """The job's status once it has ended; shows the server's progress notifications meanwhile."""
    deadline = time.monotonic() + LIMIT_SECONDS
    with live_bar(console) as bar:
        while True:
            status = await call(
                client, "wait_for_job", {"job_id": job_id, "timeout_seconds": 60}, bar
            )
            if status["is_done"]:
                return status
            if time.monotonic() > deadline:
                raise DemoFailed(f"Not done after {LIMIT_SECONDS} s: {status['summary']}")


async def losses_of(client: Client, job_id: str) -> list[float]:
    """The training losses in the job's log, the first one first."""
    answer = await call(
        client, "get_job_logs", {"job_id": job_id, "lines": 500, "grep": "'loss': "}
    )
    return [float(found) for found in _LOSS.findall(answer["logs"])]


def report(console: Console, status: dict[str, Any], losses: list[float]) -> None:
    """Say how the run ended and where everything is."""
    completed = status["state"] == "succeeded"
    console.print(f"[{'green' if completed else 'red'}]{status['summary']}[/]", soft_wrap=True)
    rows = {"state": status["state"]}
    if losses:
        rows["loss"] = f"{losses[0]:.3f} -> {losses[-1]:.3f}"
    rows["checkpoint"] = last_checkpoint(Path(status["output_dir"])) or "none"
    rows["log"] = status["log_path"] or "none"
    rows["Prefect UI"] = status["url"] or "none"
    for name, value in rows.items():
        console.print(f"  [bold]{name:<11}[/] {value}", soft_wrap=True, highlight=False)
    if not completed and status["error_tail"]:
        console.print(status["error_tail"], markup=False, soft_wrap=True)
    console.print(
        f"The UI asks for a password: `{OUMI_FLOWS} status` says where it is kept.\n"
        f"The engine keeps running; `{OUMI_FLOWS} down` stops it.",
        highlight=False,
        soft_wrap=True,
    )


def last_checkpoint(output_dir: Path) -> str | None:
    """The newest whole checkpoint in `output_dir`."""
    found = [state.parent for state in output_dir.glob("checkpoint-*/trainer_state.json")]
    newest = max(found, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Say `what` is being done, then that it was and how long it took."""
    started = time.monotonic()
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield
    console.print(f"[green]✓[/] {what} [dim]({time.monotonic() - started:.1f} s)[/]")


@contextmanager
def live_bar(console: Console) -> Iterator[Bar]:
    """A progress bar on a terminal; elsewhere, a line whenever the message changes."""
    if not console.is_terminal:
        last = ""

        def line(done: float, total: float | None, message: str) -> None:
            nonlocal last
            if message and message != last:
                last = message
                console.print(f"  {message}", highlight=False, soft_wrap=True)

        yield line
        return
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("waiting", total=None)

        def bar(done: float, total: float | None, message: str) -> None:
            progress.update(task, completed=done, total=total, description=message or "running")

        yield bar


if __name__ == "__main__":
    output = Console()
    workspace = Path(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES.parent / ".demo"
    try:
        completed = asyncio.run(main(workspace.absolute(), output))
    except DemoFailed as error:
        output.print(f"[red]{error}[/]", soft_wrap=True)
        completed = False
    sys.exit(0 if completed else 1)
