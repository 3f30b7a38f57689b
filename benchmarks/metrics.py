"""The training record at a million values: append, read, chart; and what its samples cost.

Floor: numpy reads the same bytes.
"""

import asyncio
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.support import OURS, Report, main, repeat
from flows.core.redaction import Redactor
from flows.core.training.chart import draw_metrics
from flows.core.training.recorder import Recorder, file_name, record_folder
from flows.core.training.series import ROW
from flows.core.training.summary import describe_metrics
from flows.core.training.values import MetricsRequest
from flows.job.insight import look_at_training
from flows.launcher.local.usage_sampler import UsageSampler

VALUES = 1_000_000
READ = "<= 100 ms"
SAMPLE = "<= 10 ms"
"""0.2 % of a core, at one sample in 5 s."""


def measure(report: Report, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure_in(report, Path(folder), runs))


async def measure_in(report: Report, folder: Path, runs: int) -> None:
    log = folder / "log.txt"
    log.touch()
    recorder = Recorder(record_folder(log), "1")
    recorder.note("begin", {"step": 0})
    began_at = time.perf_counter()
    for step in range(VALUES):
        recorder.log(step, {"loss": 1 / (step + 1)}, at=float(step))
    seconds = time.perf_counter() - began_at
    recorder.close()
    report.add("append a value", OURS, [seconds / VALUES * 1e6], "us")
    request = MetricsRequest(job_id="x", log_paths=[str(log)])

    async def read() -> None:
        await asyncio.to_thread(describe_metrics, request)

    async def read_bytes() -> None:
        await asyncio.to_thread(least_value, record_folder(log) / "1" / file_name("loss"))

    report.add("describe 1e6 values, 100 points", OURS, await repeat(read, runs), "ms", READ)
    report.add("the least of the same values", "numpy", await repeat(read_bytes, runs), "ms")
    metrics = describe_metrics(request)
    pngs: list[bytes] = []

    async def draw() -> None:
        pngs.append(await asyncio.to_thread(draw_metrics, [metrics]))

    report.add("chart of one metric", OURS, await repeat(draw, runs), "ms")
    report.add("size of that chart", OURS, [len(pngs[0]) / 1000], "kB")

    async def look() -> None:
        await asyncio.to_thread(look_at_training, log, hide=Redactor())

    report.add("a worker's look at the job", OURS, await repeat(look, runs), "ms")
    report.add("a sample of 10 processes", OURS, sample(folder, runs), "ms", SAMPLE)


def least_value(path: Path) -> float:
    return float(np.fromfile(path, dtype=ROW)["value"].min())


def sample(folder: Path, runs: int) -> list[float]:
    """CPU time of each sample, in ms."""
    found: list[float] = []
    for number in range(runs):
        sampler = UsageSampler(
            folder / f"usage-{number}",
            pids=lambda: [os.getpid()] * 10,
            cpu_seconds=lambda: None,
            started_at=time.time(),
        )
        time.sleep(max(0.0, sampler.seconds_until_next()))
        before = resource.getrusage(resource.RUSAGE_SELF)
        sampler.sample()
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append(used * 1000)
    return found


if __name__ == "__main__":
    main("metrics", __doc__, measure, runs=15)
