"""What local jobs share: the slots of this machine and its GPUs. Standard library only.

A unit is what a job holds alone while it runs: a GPU, a part of one, or a place on a machine
without GPUs. Units are named by the GPU itself, so that workers that see other GPUs, or the same
ones under other names, agree about each.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from flows.launcher.local.gpus import GpuDevice


class Unit(NamedTuple):
    """A part of the machine that one job holds at a time.

    Attributes:
        lock: Name of its file.
        device: The GPU, as ``CUDA_VISIBLE_DEVICES`` names it; empty: none.
        share: Number of the share that a job gets which asks for no GPUs.
    """

    lock: str
    device: str
    share: int


def make_units(gpus: Sequence[GpuDevice], slots: int | None) -> list[Unit]:
    """Divide the machine.

    Args:
        gpus: Its GPUs.
        slots: Shares; None: one for each GPU, or a single one. More shares than GPUs divide each
            GPU; fewer give several GPUs to each share.
    """
    count = slots or max(1, len(gpus))
    if not gpus:
        return [Unit(str(number), "", number) for number in range(count)]
    parts = max(1, -(-count // len(gpus)))
    # One part of each GPU first, so that jobs spread over the GPUs.
    return [
        Unit(_lock(gpu, part), gpu.name, (part * len(gpus) + number) % count)
        for part in range(parts)
        for number, gpu in enumerate(gpus)
        if part * len(gpus) + number < max(count, len(gpus))
    ]


def choose_units(units: Sequence[Unit], free: Collection[str], *, gpus: int) -> list[Unit]:
    """Choose what a job gets; empty: it has to wait.

    Args:
        units: All units.
        free: Names of the units that no job holds.
        gpus: Whole GPUs that the job asks for; 0: one share.
    """
    if not gpus:
        shares = sorted({unit.share for unit in units})
        groups = [[unit for unit in units if unit.share == share] for share in shares]
        whole = [group for group in groups if all(unit.lock in free for unit in group)]
        return whole[0] if whole else []
    devices = list(dict.fromkeys(unit.device for unit in units if unit.device))
    held = {unit.device for unit in units if unit.lock not in free}
    chosen = [device for device in devices if device not in held][:gpus]
    return [unit for unit in units if unit.device in chosen] if len(chosen) == gpus else []


def gpus_of_share(gpus: int, slots: int | None) -> int:
    """How many of a machine's GPUs the smallest share has, as `make_units` divides them."""
    return max(1, gpus // (slots or gpus)) if gpus else 0


def devices_of(units: Sequence[Unit]) -> str:
    """The value of ``CUDA_VISIBLE_DEVICES`` for a job that holds the units; empty: unchanged."""
    return ",".join(dict.fromkeys(unit.device for unit in units if unit.device))


def _lock(gpu: GpuDevice, part: int) -> str:
    return f"{gpu.uuid or gpu.name}.{part}".replace("/", "_")
