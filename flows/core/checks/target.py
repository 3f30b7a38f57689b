"""The machine that a job config requests."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NamedTuple

from flows.core.configs.clouds import CloudKind, cloud_kinds, find_kind

SKY_DISK_GB: Final = 256
"""The default disk size of a SkyPilot 0.12 cluster."""

_SPEC: Final = re.compile(r"(?P<name>[A-Za-z][\w. -]*?)\s*(?::\s*(?P<count>\d+(?:\.\d+)?))?")


class GpuModel(NamedTuple):
    """A model of GPU: memory in GB, CUDA compute capability."""

    memory_gb: float
    capability: float


GPU_MODELS: Final = {
    "A10": GpuModel(24, 8.6),
    "A100": GpuModel(40, 8.0),
    "A100-40GB": GpuModel(40, 8.0),
    "A100-80GB": GpuModel(80, 8.0),
    "A100-80GB-SXM": GpuModel(80, 8.0),
    "A10G": GpuModel(24, 8.6),
    "A16": GpuModel(16, 8.6),
    "A30": GpuModel(24, 8.0),
    "A4000": GpuModel(16, 8.6),
    "A40": GpuModel(48, 8.6),
    "A5000": GpuModel(24, 8.6),
    "A6000": GpuModel(48, 8.6),
    "A800": GpuModel(80, 8.0),
    "B100": GpuModel(192, 10.0),
    "B200": GpuModel(180, 10.0),
    "B300": GpuModel(270, 10.3),
    "GB200": GpuModel(192, 10.0),
    "GB300": GpuModel(288, 10.3),
    "GH200": GpuModel(96, 9.0),
    "H100": GpuModel(80, 9.0),
    "H100-80GB": GpuModel(80, 9.0),
    "H100-MEGA-80GB": GpuModel(80, 9.0),
    "H100-NVL": GpuModel(94, 9.0),
    "H100-SXM": GpuModel(80, 9.0),
    "H20": GpuModel(141, 9.0),
    "H200": GpuModel(141, 9.0),
    "H200-SXM": GpuModel(141, 9.0),
    "H800": GpuModel(80, 9.0),
    "K80": GpuModel(12, 3.7),
    "L4": GpuModel(24, 8.9),
    "L40": GpuModel(48, 8.9),
    "L40S": GpuModel(48, 8.9),
    "M60": GpuModel(8, 5.2),
    "P100": GpuModel(16, 6.0),
    "P4": GpuModel(8, 6.1),
    "P40": GpuModel(24, 6.1),
    "RTX2000-Ada": GpuModel(16, 8.9),
    "RTX3090": GpuModel(24, 8.6),
    "RTX4000-Ada": GpuModel(20, 8.9),
    "RTX4090": GpuModel(24, 8.9),
    "RTX5090": GpuModel(32, 12.0),
    "RTX6000": GpuModel(24, 7.5),
    "RTX6000-Ada": GpuModel(48, 8.9),
    "RTXA4000": GpuModel(16, 8.6),
    "RTXA5000": GpuModel(24, 8.6),
    "RTXA6000": GpuModel(48, 8.6),
    "RTXPRO6000": GpuModel(96, 12.0),
    "T4": GpuModel(16, 7.5),
    "T4g": GpuModel(16, 7.5),
    "V100": GpuModel(16, 7.0),
    "V100-32GB": GpuModel(32, 7.0),
}
"""CUDA GPUs by name, including those of SkyPilot 0.12; the largest of each name."""

_BY_LOWER: Final = {name.lower(): name for name in GPU_MODELS}


class Accelerator(NamedTuple):
    """GPUs that a job config requests, per node."""

    name: str
    number: float

    @property
    def model(self) -> GpuModel | None:
        """The model of these GPUs; None if unknown."""
        return GPU_MODELS.get(_BY_LOWER.get(self.name.lower(), ""))


@dataclass(frozen=True)
class Target:
    """The machine that a job will run on."""

    cloud: str
    accelerator: Accelerator | None = None
    num_nodes: int = 1
    disk_gb: int | None = None
    instance_type: str = ""

    @property
    def kind(self) -> CloudKind | None:
        """The kind of its cloud; None if Oumi has no such cloud."""
        return find_kind(self.cloud)

    @property
    def is_local(self) -> bool:
        """Whether it is the worker's own machine."""
        return self.kind is not None and self.kind.is_local

    @property
    def is_sky(self) -> bool:
        """Whether SkyPilot provides it."""
        return self.kind is not None and self.kind.is_sky

    @property
    def is_rented(self) -> bool:
        """Whether it, and the files on it, are there for one cluster only."""
        return self.kind is not None and self.kind.rents_machines


def parse_accelerator(text: str, *, cloud: str = "") -> Accelerator | None:
    """Parse a text such as ``A100:8``; None if it is not valid.

    For Slurm, whose GPUs may have no type, Oumi 0.9 also accepts a count alone (``8`` or ``:8``)
    and drops a ``+`` at the end.
    """
    spec = text.strip()
    kind = find_kind(cloud)
    if kind is not None and kind.counts_gpus:
        spec = spec.rstrip("+").rstrip()
        if re.fullmatch(r":?\s*\d+", spec):
            spec = f"GPU:{spec.lstrip(': ')}"
    matched = _SPEC.fullmatch(spec)
    if matched is None:
        return None
    count = float(matched["count"] or 1)
    return Accelerator(matched["name"], count) if count > 0 else None


def nearest_gpu(name: str) -> str:
    """The GPU with the most similar name; empty if this one is known, or none is similar."""
    if name.lower() in _BY_LOWER:
        return ""
    # A different number means a different GPU, not a typing error.
    alike = [known for known in _BY_LOWER if _numbers(known) == _numbers(name)]
    close = get_close_matches(name.lower(), alike, n=1, cutoff=0.75)
    return _BY_LOWER[close[0]] if close else ""


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def nearest_cloud(name: str) -> str:
    """The cloud with the most similar name; empty if none is similar."""
    others = {"kubernetes": "k8s", "google": "gcp", "amazon": "aws", "sky": "gcp"}
    close = get_close_matches(name.lower(), sorted(cloud_kinds()), n=1)
    return others.get(name.lower()) or (close[0] if close else "")
