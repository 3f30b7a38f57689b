"""From the call to the first training step, and to the end of a sweep: warm, cold, and by hand.

The same tiny training (97,000 parameters, 5 steps, on the CPU) through our MCP server with and
without the warm host, and as the plain `oumi train` that a person would type.
"""

import asyncio
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.support import (
    BIN,
    OURS,
    REPOSITORY,
    Bench,
    Report,
    call,
    done,
    main,
    mcp_client,
    submit,
    warm_engine,
)
from flows.core.training.recorder import ROW

STEPS = {"training.max_steps": 5, "training.eval_strategy": "no", "training.save_steps": 1000}
TRIALS = 12
PLAIN = "plain `oumi train`"
COLD = "oumi-flows, warm start off"


def measure(report: Report, runs: int) -> None:
    with warm_engine(OUMI_FLOWS_LOCAL_SLOTS="4") as made:
        config = tiny(made)
        plain = [by_hand(made, config) for _ in range(runs)]
        warm = asyncio.run(first_steps(made, config, runs, is_warm=True))
        warm_sweep = asyncio.run(sweep(made, config))
        memory = asyncio.run(shares(made, config))
    with warm_engine(OUMI_FLOWS_LOCAL_SLOTS="4", OUMI_FLOWS_WARM_START="off") as made:
        config = tiny(made)
        cold = asyncio.run(first_steps(made, config, runs, is_warm=False))
        cold_sweep = asyncio.run(sweep(made, config))
        cold_memory = asyncio.run(shares(made, config))
    for name, target, place in (
        ("call to first training step", "<= 3 s", 0),
        ("call to the end of a training of 5 steps", "", 1),
    ):
        report.add(name, OURS, [times[place] for times in warm], "s", target)
        report.add(name, COLD, [times[place] for times in cold], "s")
        report.add(name, PLAIN, [times[place] for times in plain], "s")
    name = f"sweep of {TRIALS} trainings, two at once"
    report.add(name, OURS, [warm_sweep], "s", "<= 30 s")
    report.add(name, COLD, [cold_sweep], "s")
    name = "memory of four trainings at once, with the host (PSS)"
    report.add(name, OURS, [memory], "MiB")
    report.add(name, COLD, [cold_memory], "MiB")


def tiny(made: Bench) -> Path:
    """The tiny training, with its model and data beside it."""
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, made.folder)
    command = [sys.executable, "make_tiny.py", "data"]
    subprocess.run(command, cwd=made.folder, env=made.env, check=True, capture_output=True)
    return made.folder / "train.yaml"


def by_hand(made: Bench, config: Path) -> tuple[float, float]:
    """Seconds to the first logged loss and to the end of the plain command."""
    options = [f"--{name}={value!r}" for name, value in STEPS.items()]
    command = [str(BIN / "oumi"), "train", "-c", str(config), *options]
    started = time.perf_counter()
    first = 0.0
    with subprocess.Popen(
        [*command, f"--training.output_dir={made.folder}/plain"],
        cwd=made.folder,
        env={**made.env, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        last: deque[str] = deque(maxlen=20)
        for line in process.stdout:
            last.append(line)
            if not first and "'loss':" in line:
                first = time.perf_counter() - started
    if process.returncode or not first:
        raise RuntimeError(f"the plain training failed: {process.returncode}\n{''.join(last)}")
    return first, time.perf_counter() - started


async def first_steps(
    made: Bench, config: Path, runs: int, *, is_warm: bool
) -> list[tuple[float, float]]:
    """Seconds from the call to the first recorded loss and to the job's end, of each run."""
    found: list[tuple[float, float]] = []
    async with mcp_client(made) as client:
        if is_warm:
            await wait_for_host(client, made, config)
        for number in range(runs):
            began_at = time.time()
            job = await submit(client, config, overrides=overrides(made, f"run-{number}"))
            status = await done(client, job["job_id"])
            ended = time.time() - began_at
            expect(status, "warm" if is_warm else "cold")
            found.append((first_loss_at(status) - began_at, ended))
    return found


async def wait_for_host(client: Any, made: Bench, config: Path) -> None:
    """Wait until a job starts warm."""
    for number in range(30):
        job = await submit(client, config, overrides=overrides(made, f"try-{number}"))
        if (await done(client, job["job_id"]))["usage"]["start"] == "warm":
            return
    raise RuntimeError("no job started warm")


def expect(status: dict[str, Any], start: str) -> None:
    """Check that a job succeeded, and started as expected."""
    if status["state"] != "succeeded" or status["usage"]["start"] != start:
        raise RuntimeError(f"not {start}: {status['summary']}")


def first_loss_at(status: dict[str, Any]) -> float:
    """When the first loss was recorded (``time.time``)."""
    record = Path(status["log_path"]).with_suffix(".record")
    rows = [path.read_bytes()[: ROW.size] for path in record.glob("*/loss.rows")]
    return min(ROW.unpack(row)[1] for row in rows)


def overrides(made: Bench, name: str) -> dict[str, Any]:
    return {**STEPS, "training.output_dir": str(made.folder / "runs" / name)}


async def sweep(made: Bench, config: Path) -> float:
    """Seconds from the call to the end of a sweep."""
    rates = [round(0.001 * (number + 1), 4) for number in range(TRIALS)]
    path = made.folder / "sweep.yaml"
    described = {
        "name": "rates",
        "config_path": str(config),
        "overrides": STEPS,
        "space": {"training.learning_rate": rates},
        "search": "grid",
        "metric": "loss",
        "direction": "minimize",
        "concurrency": 2,
    }
    path.write_text(yaml.safe_dump(described))
    async with mcp_client(made) as client:
        started = time.perf_counter()
        run = await call(
            client, "run_sweep", sweep_path=str(path), client_cwd=str(path.parent), dry_run=False
        )
        status = await done(client, run["job_id"], timeout=900)
        if status["state"] != "succeeded":
            raise RuntimeError(status["summary"])
        return time.perf_counter() - started


async def shares(made: Bench, config: Path) -> float:
    """Proportional memory in MiB of four trainings that run at once, and of their host."""
    long = {**overrides(made, "long"), "training.max_steps": 100_000}
    async with mcp_client(made) as client:
        jobs = [
            await submit(
                client, config, overrides={**long, "training.output_dir": f"{made.folder}/{number}"}
            )
            for number in range(4)
        ]
        for job in jobs:
            await wait_for_step(client, job["job_id"])
        total = sum(map(share, trainings_and_host(made)))
        for job in jobs:
            await call(client, "cancel_job", job_id=job["job_id"], force=True)
    return total / 2**20


async def wait_for_step(client: Any, job_id: str) -> None:
    """Wait until a training has done a step."""
    for _ in range(600):
        progress = (await call(client, "get_job_status", job_id=job_id))["progress"]
        if progress and progress["step"]:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("no step")


def trainings_and_host(made: Bench) -> list[psutil.Process]:
    """The processes of jobs, their supervisors and the warm host."""
    marks = (str(made.home / "local"), str(made.home / "warm"))
    return [
        process
        for process in psutil.process_iter()
        if any(mark in word for mark in marks for word in command_line(process))
        or command_line(process)[2:4] == ["train", "-c"]
    ]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def share(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss)


if __name__ == "__main__":
    main("warm_start", __doc__, measure, runs=5)
