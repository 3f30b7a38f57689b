"""The GPUs of this machine, counted without loading a framework."""

import os
import shutil
import subprocess
from typing import Final

_TIMEOUT_SECONDS: Final = 10.0


def visible_gpus() -> list[str]:
    """The GPUs a process started from here would see, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # CUDA itself stops at the first entry that is not a device.
        return [name for name in names if name and name != "-1"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    count = sum(line.startswith("GPU ") for line in listing.splitlines())
    return [str(number) for number in range(count)]


def shares(gpus: list[str], slots: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each slot; empty with fewer than two GPUs."""
    if len(gpus) < 2:
        return []
    if slots >= len(gpus):
        return [gpus[slot % len(gpus)] for slot in range(slots)]
    return [",".join(gpus[slot::slots]) for slot in range(slots)]
