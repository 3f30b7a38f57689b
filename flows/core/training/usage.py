"""What a local job uses of its machine, as its supervisor recorded it."""

import json
import os
from pathlib import Path
from typing import Final

from flows.core.models import GpuUsage, Usage
from flows.core.regular_files import open_regular_file
from flows.core.training.recorder import ROW, file_name
from flows.core.training.usage_names import (
    COMMANDS_FILE,
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

_COMMANDS_BYTES: Final = 1_000_000


def read_usage(record: Path) -> Usage | None:
    """Read what a job used last, from its record; None if that was not recorded. Blocking."""
    segment = record / USAGE_SEGMENT
    if not segment.is_dir():
        return None
    last = {name: _last(segment, name) for name in (RAM, RAM_PEAK, CPU, DISK)}
    gpus: list[GpuUsage] = []
    for number in range(GPUS_MAX):
        kinds = (GPU_UTILIZATION, GPU_MEMORY, GPU_POWER)
        values = {kind: _last(segment, gpu_metric(number, kind)) for kind in kinds}
        if all(value is None for value in values.values()):
            break
        gpus.append(GpuUsage.model_validate(values))
    return Usage.model_validate({**last, "gpus": gpus, "start": _read_start(record)})


def _read_start(record: Path) -> str | None:
    """How the job's last command started; cold where none was noted."""
    try:
        with open_regular_file(record / COMMANDS_FILE) as file:
            lines = file.read(_COMMANDS_BYTES).splitlines()
        return str(json.loads(lines[-1])["start"])
    except FileNotFoundError:
        return "cold"
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _last(segment: Path, name: str) -> float | None:
    """The last value of a metric."""
    try:
        with open_regular_file(segment / file_name(name)) as file:
            size = file.seek(0, os.SEEK_END) // ROW.size
            file.seek(max(0, size - 1) * ROW.size)
            row = file.read(ROW.size)
    except OSError:
        return None
    return ROW.unpack(row)[2] if len(row) == ROW.size else None
