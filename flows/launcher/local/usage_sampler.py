"""Samples what a local job uses of its machine, for its record. Standard library, and NVML."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.core.training.recorder import Recorder
from flows.core.training.usage_names import (
    CPU,
    DISK,
    GPU_MEMORY,
    GPU_POWER,
    GPU_UTILIZATION,
    GPUS_MAX,
    RAM,
    RAM_PEAK,
    USAGE_SEGMENT,
    gpu_metric,
)
from flows.launcher.local.gpus import find_handles, load_nvml

_PROC: Final = Path("/proc")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 5.0
_GROWTH: Final = 0.05
"""The next sample waits for this share of the job's age, within the two limits above."""


class _Used(NamedTuple):
    """What a process used."""

    ram_bytes: int = 0
    cpu_seconds: float = 0.0
    disk_bytes: int = 0


class UsageSampler:
    """Samples the processes of one job, ever less often while the job gets older.

    A sample of a job with 10 processes takes about 0.5 ms, and one of each GPU about as long.

    Args:
        record: The folder of the job's record.
        pids: Lists the job's processes.
        cpu_seconds: CPU time of all of its processes so far, ended ones too; None: not known.
        started_at: Unix time in seconds at which the job began.
        devices: ``CUDA_VISIBLE_DEVICES`` of the job; empty: every GPU.
        nvml: The module ``pynvml``; None: load it if this machine has NVIDIA's driver.
    """

    def __init__(
        self,
        record: Path,
        *,
        pids: Callable[[], Sequence[int]],
        cpu_seconds: Callable[[], float | None],
        started_at: float,
        devices: str = "",
        nvml: Any = None,
    ) -> None:
        self._recorder = Recorder(record, USAGE_SEGMENT)
        self._pids = pids
        self._cpu_seconds = cpu_seconds
        self._started_at = started_at
        self._gpus = Gpus(nvml or load_nvml(), devices)
        self._used: dict[int, _Used] = {}
        self._peak = 0
        self._due_at = time.monotonic() + _FIRST_SECONDS

    def seconds_until_next(self) -> float:
        """Seconds until a sample is due; 0 or less: now."""
        return self._due_at - time.monotonic()

    def sample(self) -> None:
        """Record a sample if one is due. A full disk or a process that has ended is no error."""
        if self.seconds_until_next() > 0:
            return
        age = max(0.0, time.time() - self._started_at)
        with suppress(OSError):
            self._recorder.log(int(age), {**self._read(), **self._gpus.read()})
        wait = min(max(age * _GROWTH, _FIRST_SECONDS), _LONGEST_SECONDS)
        self._due_at = time.monotonic() + wait

    def finish(self) -> None:
        """Record the CPU time of a job that has ended, where that is known exactly."""
        cpu = self._cpu_seconds()
        if cpu is not None:
            with suppress(OSError):
                self._recorder.log(int(time.time() - self._started_at) + 1, {CPU: cpu})

    def _read(self) -> dict[str, float]:
        live = {pid: used for pid in self._pids() if (used := _read_process(pid)) is not None}
        ram = sum(used.ram_bytes for used in live.values())
        self._peak = max(self._peak, ram)
        # Of a process that has ended, what it had used at the last sample counts.
        self._used |= live
        cpu = self._cpu_seconds()
        return {
            RAM: ram,
            RAM_PEAK: self._peak,
            CPU: sum(used.cpu_seconds for used in self._used.values()) if cpu is None else cpu,
            DISK: sum(used.disk_bytes for used in self._used.values()),
        }


class Gpus:
    """The GPUs of a job, as NVML reports them.

    Args:
        nvml: The module ``pynvml``; None: there are none.
        devices: ``CUDA_VISIBLE_DEVICES``: numbers or UUIDs; empty: every GPU.
    """

    def __init__(self, nvml: Any, devices: str) -> None:
        self._nvml = nvml
        self._handles: list[Any] = []
        if nvml is not None:
            with suppress(Exception):  # of NVML, whose errors have no common base we could name
                nvml.nvmlInit()
                self._handles = find_handles(nvml, devices)

    def read(self) -> Mapping[str, float]:
        """Read the use of each GPU; what a GPU does not report is left out."""
        found: dict[str, float] = {}
        for number, handle in enumerate(self._handles[:GPUS_MAX]):
            for kind, read in self._reads().items():
                with suppress(self._nvml.NVMLError):
                    found[gpu_metric(number, kind)] = float(read(handle))
        return found

    def _reads(self) -> dict[str, Callable[[Any], float]]:
        nvml = self._nvml
        return {
            GPU_UTILIZATION: lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
            GPU_MEMORY: lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            GPU_POWER: lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,  # from milliwatts
        }


def _read_process(pid: int) -> _Used | None:
    folder = _PROC / str(pid)
    try:
        stat = (folder / "stat").read_bytes()
    except OSError:  # it has ended
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    written = 0
    with suppress(OSError):  # of another user, or without I/O accounting
        lines = (folder / "io").read_bytes().splitlines()
        written = next(int(line.split()[1]) for line in lines if line.startswith(b"write_bytes"))
    # proc(5): utime and stime are fields 14 and 15, rss in pages is field 24.
    return _Used(int(fields[21]) * _PAGE_BYTES, sum(map(int, fields[11:13])) / _TICKS, written)
