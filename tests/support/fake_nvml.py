# ruff: noqa: N802 - the names of pynvml
"""NVML of a machine that the test describes, as the module `pynvml` offers it."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NvmlError(Exception):
    """As pynvml.NVMLError."""


@dataclass
class FakeGpu:
    """A GPU; what is None is not supported by it."""

    uuid: str | None
    name: str | None = "NVIDIA H200"
    total: int | None = 141 * 2**30
    free: int = 140 * 2**30
    capability: list[int] | None = field(default_factory=lambda: [9, 0])
    power: int | None = 250_000
    utilization: int = 0
    parts: list["FakeGpu"] | None = None
    """Its MIG instances; None: it is not divided."""
    is_unreadable: bool = False


def said(value: Any) -> Any:
    if value is None:
        raise NvmlError
    return value


class FakeNvml:
    """The calls of NVML that we make."""

    NVMLError = NvmlError

    def __init__(self, *gpus: FakeGpu, works: bool = True) -> None:
        self.gpus = list(gpus)
        self.works = works

    def nvmlInit(self) -> None:
        if not self.works:
            raise NvmlError

    def nvmlShutdown(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.10"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> FakeGpu:
        return self.gpus[number]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:
        return next(gpu for gpu in self.gpus if gpu.uuid == uuid)

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        return said(gpu.uuid)

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:
        if gpu.is_unreadable:
            return b"NVIDIA \xff".decode()
        return said(gpu.name)

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:
        total = said(gpu.total)
        return SimpleNamespace(total=total, free=gpu.free, used=total - gpu.free)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: FakeGpu) -> list[int]:
        return said(gpu.capability)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        return said(gpu.power)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:
        return SimpleNamespace(gpu=gpu.utilization)

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:
        return [int(gpu.parts is not None), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:
        return said(gpu.parts[index] if gpu.parts and index < len(gpu.parts) else None)
