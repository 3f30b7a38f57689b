"""Names of the metrics of what a job uses of its machine. Standard library only."""

from typing import Final

USAGE_SEGMENT: Final = "usage"
"""Name of the segment of the record; its steps are whole seconds since the job began."""
USAGE_PREFIX: Final = "usage/"
"""Prefix of these metrics among those of a job."""
RAM: Final = "ram_bytes"
RAM_PEAK: Final = "ram_peak_bytes"
CPU: Final = "cpu_seconds"
DISK: Final = "disk_written_bytes"
GPU_UTILIZATION: Final = "utilization_percent"
GPU_MEMORY: Final = "memory_bytes"
GPU_POWER: Final = "power_watts"
GPUS_MAX: Final = 64
PAUSE_EVENT: Final = "pause"
"""Event of this segment: the processes of the job were frozen."""
RESUME_EVENT: Final = "resume"
"""Event of this segment: they go on."""
COMMANDS_FILE: Final = "commands.jsonl"
"""File of the record with a line for each command of Oumi: how it started, and why so."""


def gpu_metric(number: int, what: str) -> str:
    """Name the metric of a GPU of the job, such as ``gpu0_utilization_percent``."""
    return f"gpu{number}_{what}"
