"""What a local job used of its machine, in its record."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flows.core.models import GpuUsage, Usage
from flows.core.training.record import TrainingRecord
from flows.core.training.usage import read_usage
from flows.launcher.local.usage_sampler import Gpus, UsageSampler
from tests.support.fake_nvml import FakeGpu, FakeNvml
from tests.support.waiting import eventually_sync

WORK = """
import os, sys
kept = bytearray(80_000_000)
with open(sys.argv[1], "wb") as file:
    file.write(kept[:5_000_000])
    os.fsync(file.fileno())
while os.times().user < 0.3:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


def fake_nvml(count: int) -> FakeNvml:
    """A machine with GPUs, of which number 1 does not report its power."""
    return FakeNvml(
        *(
            FakeGpu(
                f"GPU-{number}",
                free=(141 - number) * 2**30,
                utilization=10 * number,
                power=None if number == 1 else 250_000,
            )
            for number in range(count)
        )
    )


def make_sampler(record: Path, pids: list[int], **kwargs: Any) -> UsageSampler:
    return UsageSampler(
        record, pids=lambda: pids, cpu_seconds=lambda: None, started_at=time.time(), **kwargs
    )


def take_sample(sampler: UsageSampler) -> None:
    """Sample as soon as a sample is due."""
    eventually_sync(lambda: sampler.seconds_until_next() <= 0, timeout=30, interval=0.05)
    sampler.sample()


def test_memory_processor_and_disk_of_a_process_are_recorded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORK, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        pids = [process.pid]
        sampler = make_sampler(tmp_path, pids)
        take_sample(sampler)
        during = read_usage(tmp_path)
        process.communicate()
    pids.clear()
    take_sample(sampler)
    after = read_usage(tmp_path)
    assert during is not None
    assert after is not None
    assert during.ram_bytes is not None
    assert 80_000_000 < during.ram_bytes < 300_000_000
    assert during.cpu_seconds is not None
    assert during.cpu_seconds >= 0.3
    assert (after.ram_bytes, after.ram_peak_bytes) == (0, during.ram_bytes)
    assert (after.cpu_seconds, after.disk_written_bytes) == (
        during.cpu_seconds,
        during.disk_written_bytes,
    )
    assert TrainingRecord([tmp_path]).names() == []


def test_each_gpu_of_the_job_is_recorded_with_what_it_reports(tmp_path: Path) -> None:
    take_sample(make_sampler(tmp_path, [], nvml=fake_nvml(4), devices="1,GPU-3"))
    usage = read_usage(tmp_path)
    assert usage is not None
    assert usage.gpus == [
        GpuUsage(utilization_percent=10, memory_bytes=2**30),
        GpuUsage(utilization_percent=30, memory_bytes=3 * 2**30, power_watts=250),
    ]


def test_without_devices_every_gpu_is_recorded() -> None:
    assert sorted(Gpus(fake_nvml(3), "").read()) == [
        "gpu0_memory_bytes",
        "gpu0_power_watts",
        "gpu0_utilization_percent",
        "gpu1_memory_bytes",
        "gpu1_utilization_percent",
        "gpu2_memory_bytes",
        "gpu2_power_watts",
        "gpu2_utilization_percent",
    ]


def test_a_driver_that_does_not_answer_leaves_the_gpus_out() -> None:
    assert Gpus(FakeNvml(FakeGpu("GPU-0"), works=False), "").read() == {}


def test_without_samples_the_use_is_not_known(tmp_path: Path) -> None:
    assert read_usage(tmp_path) is None
    (tmp_path / "usage").mkdir()
    assert read_usage(tmp_path) == Usage(start="cold")
