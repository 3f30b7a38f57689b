"""The GPUs of this machine, counted without loading a framework."""

import os
import shutil
import subprocess
from typing import Final

_SECONDS: Final = 10.0


def visible_gpus() -> list[str]:
    """The GPUs a process started from here would see, as CUDA_VISIBLE_DEVICES names them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # CUDA itself stops at the first entry that is not a device.
        return [name for name in names if name and name != "-1"]
    count = sum(line.startswith("GPU ") for line in nvidia_smi("-L", within_seconds=_SECONDS))
    return [str(number) for number in range(count)]


def nvidia_smi(*arguments: str, within_seconds: float) -> list[str]:
    """The lines that NVIDIA's tool prints; none where it is missing, fails or takes too long.

    It does not use CUDA, whose context takes memory on each GPU for as long as the process lives.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, *arguments], capture_output=True, text=True, timeout=within_seconds, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def shares(gpus: list[str], slots: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each slot; empty with fewer than two GPUs."""
    if len(gpus) < 2:
        return []
    if slots >= len(gpus):
        return [gpus[slot % len(gpus)] for slot in range(slots)]
    return [",".join(gpus[slot::slots]) for slot in range(slots)]
