"""What the benchmarks share: an engine of their own, an MCP client, statistics, tables, JSON."""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import psutil
from mcp import Client, StdioServerParameters

REPOSITORY = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
OUMI_FLOWS = BIN / "oumi-flows"
MARKER = "OUMI_FLOWS_BENCHMARK"
OURS = "oumi-flows"

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One measured quantity of one program."""

    what: str
    who: str
    values: Sequence[float]
    unit: str
    target: str = ""

    @property
    def cells(self) -> list[str]:
        """The row of the table: what, who, median, worst, number of values, target."""
        median, worst = statistics.median(self.values), self._worst
        return [
            self.what,
            self.who,
            f"{number(median)} {self.unit}",
            f"{number(worst)} {self.unit}" if len(self.values) > 1 else "",
            str(len(self.values)),
            self.target,
        ]

    @property
    def _worst(self) -> float:
        return min(self.values) if self.unit.endswith("/s") else max(self.values)


@dataclass
class Report:
    """The rows of one benchmark and the machine they were measured on."""

    name: str
    rows: list[Row] = field(default_factory=list[Row])

    def add(
        self, what: str, who: str, values: Sequence[float], unit: str, target: str = ""
    ) -> None:
        """Add a row and print it."""
        row = Row(what, who, [round(value, 4) for value in values], unit, target)
        self.rows.append(row)
        print(" | ".join(cell for cell in row.cells if cell), flush=True)


def number(value: float) -> str:
    """A value with as many digits as are worth reading."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = ["what", "who", "median", "worst", "runs", "target"]
    lines = [head, ["---"] * len(head), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "prefect": version("prefect"),
        "mcp": version("mcp"),
        "oumi": version("oumi"),
    }


def main(name: str, doc: str | None, measure: Callable[[Report, int], None], *, runs: int) -> None:
    """Be the command line of one benchmark.

    Args:
        name: Its name.
        doc: Its module's docstring.
        measure: Measures and adds rows; takes the number of runs.
        runs: Number of runs unless another is asked for.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    parser.add_argument("--runs", type=int, default=runs, help=f"how often to measure ({runs})")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    facts = machine()
    report = Report(name)
    started = time.monotonic()
    measure(report, arguments.runs)
    print(f"\n{markdown(report.rows)}\n\n{name}: {time.monotonic() - started:.0f} s", flush=True)
    if arguments.json:
        found = {"benchmark": name, "machine": facts, "rows": [asdict(row) for row in report.rows]}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def _leave(number: int, _: object) -> None:
    # As an exception, so that everything that was started is ended.
    sys.exit(128 + number)


def environment(home: Path, marker: str, **variables: str) -> dict[str, str]:
    """The environment of everything a benchmark starts."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OUMI_", "PREFECT_", "SKYPILOT_"))
        and key != "PYTHONDONTWRITEBYTECODE"
    }
    return {
        **inherited,
        MARKER: marker,
        "OUMI_FLOWS_HOME": str(home),
        "OUMI_FLOWS_CONFIGS_URL": "off",
        "OUMI_FLOWS_ENGINE_TIMEOUT_SECONDS": "120",
        "PREFECT_HOME": str(home.parent / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        **variables,
    }


@dataclass(frozen=True)
class Bench:
    """A folder and an environment that are gone afterwards, and so is all that was started."""

    folder: Path
    env: dict[str, str]

    @property
    def home(self) -> Path:
        """OUMI_FLOWS_HOME."""
        return Path(self.env["OUMI_FLOWS_HOME"])

    def cli(self, *arguments: str, timeout: float = 180) -> str:
        """Run a command of ours and return its output."""
        done = subprocess.run(
            [str(OUMI_FLOWS), *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"oumi-flows {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """What ``oumi-flows status`` says."""
        return json.loads(self.cli("status", "--json"))

    def job(self, name: str, run: str) -> Path:
        """Write a job config whose script is `run`."""
        path = self.folder / f"{name}.yaml"
        script = "\n".join(f"  {line}" for line in run.splitlines())
        path.write_text(f"name: {name}\nresources:\n  cloud: local\nrun: |\n{script}\n")
        return path

    def prefect_env(self) -> dict[str, str]:
        """The environment of a Prefect command that uses the embedded server."""
        return {
            **self.env,
            "PREFECT_API_URL": self.status()["api_url"],
            "PREFECT_API_AUTH_STRING": (self.home / "engine" / "auth").read_text().strip(),
        }


@contextmanager
def bench(**variables: str) -> Generator[Bench]:
    """A bench without an engine; whatever was started in its environment is ended."""
    folder = Path(tempfile.mkdtemp(prefix="oumi-flows-bench-"))
    marker = uuid.uuid4().hex
    made = Bench(folder, environment(folder / "home", marker, **variables))
    try:
        yield made
    finally:
        with suppress(RuntimeError):
            made.cli("down")
        end_processes(marker)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def warm_engine(**variables: str) -> Generator[Bench]:
    """A bench with an engine whose worker has loaded Oumi."""
    with bench(**variables) as made:
        made.cli("up", "--wait")
        yield made


def end_processes(marker: str) -> None:
    """End every process that has the marker in its environment."""
    left: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARKER) == marker:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=10)


@asynccontextmanager
async def mcp_client(made: Bench) -> AsyncGenerator[Client]:
    """A client of our MCP server over stdio."""
    server = StdioServerParameters(command=str(OUMI_FLOWS), args=["mcp"], env=made.env)
    async with Client(server, read_timeout_seconds=300) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of a tool."""
    result = await client.call_tool(tool, arguments)
    if result.is_error or result.structured_content is None:
        raise RuntimeError(getattr(result.content[0], "text", f"{tool} failed"))
    return result.structured_content


async def submit(client: Client, config: Path, **arguments: Any) -> dict[str, Any]:
    """Start a job."""
    return await call(
        client,
        "run_oumi_job",
        config_path=str(config),
        client_cwd=str(config.parent),
        dry_run=False,
        **arguments,
    )


async def done(client: Client, job_id: str, timeout: float = 120) -> dict[str, Any]:
    """The status of a job once it has ended."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = await call(client, "wait_for_job", job_id=job_id, timeout_seconds=30)
        if status["is_done"]:
            return status
    raise RuntimeError(f"{job_id} has not ended after {timeout:g} s")


async def timed(work: Awaitable[T]) -> tuple[float, T]:
    """How long something takes, in seconds, and its result."""
    started = time.perf_counter()
    result = await work
    return time.perf_counter() - started, result


async def repeat(work: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    """The times of `count` calls in milliseconds, after one that is not counted."""
    await work()
    return [(await timed(work()))[0] * 1000 for _ in range(count)]


async def eventually(
    check: Callable[[], T], *, timeout: float = 60, interval: float = 0.01
) -> tuple[float, T]:
    """When (``time.time``) a check first held, and its value."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so after {timeout:g} s: {check}")
        await asyncio.sleep(interval)
    return time.time(), value
