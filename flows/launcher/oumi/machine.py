"""The machine of the worker: GPUs, memory, packages. No package is imported to describe it."""

import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from flows.core.findings import Gpu, Hardware
from flows.launcher.local.gpus import GpuDevice, Gpus, read_gpus
from flows.launcher.local.slots import gpus_of_share

_FRESH_SECONDS: Final = 30.0
_PACKAGES: Final = (
    "oumi", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "skypilot",
    "flash-attn", "bitsandbytes", "deepspeed", "vllm", "liger-kernel", "verl", "optuna", "autoawq",
    "lm-eval", "wandb",
)  # fmt: skip


class Machine:
    """The worker's machine.

    Args:
        clock: Monotonic seconds.
        slots: Jobs that share it; None: as many as it has GPUs.
        nvml: The module ``pynvml``; None: the installed one.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        slots: int | None = None,
        nvml: Any = None,
    ) -> None:
        self._clock = clock
        self._slots = slots
        self._nvml = nvml
        self._seen: tuple[float, Hardware, int] | None = None

    def hardware(self) -> Hardware:
        """Describe the machine; the answer is kept for 30 s. Blocks for up to 5 s."""
        now = self._clock()
        if self._seen is None or now - self._seen[0] > _FRESH_SECONDS:
            gpus = read_gpus(self._nvml)
            self._seen = (now, _hardware(gpus), len(gpus.devices))
        return self._seen[1]

    def gpu_count(self) -> int:
        """How many GPUs jobs here share, of those too that only CUDA_VISIBLE_DEVICES names."""
        self.hardware()
        return self._seen[2] if self._seen else 0

    def gpus_of_job(self) -> int:
        """How many GPUs a job gets that asks for none."""
        return gpus_of_share(self.gpu_count(), self._slots)

    def has_package(self, name: str) -> bool:
        """Whether a package can be imported, by the name it is imported as."""
        try:
            return find_spec(name) is not None
        except (ImportError, ValueError):
            return False

    def torch_build(self) -> str:
        """What the installed torch is built for: cuda, hip or cpu; empty if unknown."""
        return _torch_build()

    def free_disk_gb(self, path: Path) -> float | None:
        """Free space where a path is, or would be; None if unknown."""
        for folder in (path, *path.parents):
            try:
                return psutil.disk_usage(str(folder)).free / 1e9
            except FileNotFoundError:
                continue
            except OSError:
                return None
        return None


def _hardware(seen: Gpus) -> Hardware:
    # Without NVML it is not known whether there are the GPUs that CUDA_VISIBLE_DEVICES names.
    gpus = [] if seen.driver is None else [_gpu(device) for device in seen.devices]
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    return Hardware(
        where="worker",
        accelerator_type="cuda" if gpus else _find_other_accelerator(),
        accelerator_count=len(gpus),
        gpus=gpus,
        driver_version=seen.driver or None,
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        packages=packages,
    )


def _find_other_accelerator() -> Literal["mps", "other", "none"]:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    if _torch_build() == "hip" and Path("/dev/kfd").exists():
        return "other"  # AMD's GPUs; their memory is unknown
    return "none"


def _torch_build() -> str:
    """Read torch's build from its version file, without importing torch."""
    try:
        spec = find_spec("torch")
        text = (Path((spec and spec.origin) or "").parent / "version.py").read_text("utf-8")
    except (ImportError, ValueError, OSError, UnicodeDecodeError):
        return ""
    for name in ("hip", "cuda"):
        if re.search(rf"^{name}\b.*= *['\"]", text, re.MULTILINE):
            return name
    return "cpu" if re.search(r"^cuda\b", text, re.MULTILINE) else ""


def _gpu(device: GpuDevice) -> Gpu:
    return Gpu(
        name=device.model,
        memory_gb=_gb(device.memory_bytes),
        free_memory_gb=_gb(device.free_bytes),
        compute_capability=device.capability or None,
    )


def _gb(count: int | None) -> float | None:
    return None if count is None else round(count / 2**30, 1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
