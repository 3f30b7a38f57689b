"""The machine of the worker: GPUs, memory, packages. No package is imported to describe it."""

import os
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil

from flows.core.findings import Gpu, Hardware
from flows.launcher.local.gpus import nvidia_smi

_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 30.0
_QUERY: Final = "index,uuid,name,memory.total,memory.free,compute_cap,driver_version"
_PACKAGES: Final = (
    "oumi", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "skypilot",
    "flash-attn", "bitsandbytes", "deepspeed", "vllm", "liger-kernel", "verl", "optuna", "autoawq",
    "lm-eval", "wandb",
)  # fmt: skip


class Machine:
    """The worker's machine.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[float, Hardware] | None = None

    def hardware(self) -> Hardware:
        """Describe the machine; the answer is kept for 30 s. Blocks for up to 5 s."""
        now = self._clock()
        if self._seen is None or now - self._seen[0] > _FRESH_SECONDS:
            self._seen = (now, _hardware())
        return self._seen[1]

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


def _hardware() -> Hardware:
    gpus, driver = _nvidia_gpus()
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    if gpus:
        kind = "cuda"
    elif platform.system() == "Darwin" and platform.machine() == "arm64":
        kind = "mps"
    elif _torch_build() == "hip" and Path("/dev/kfd").exists():
        kind = "other"  # AMD's GPUs; their memory is unknown
    else:
        kind = "none"
    return Hardware(
        where="worker",
        accelerator_type=kind,
        accelerator_count=len(gpus),
        gpus=gpus,
        driver_version=driver,
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        packages=packages,
    )


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


def _nvidia_gpus() -> tuple[list[Gpu], str | None]:
    """The GPUs that a job here would see, and the driver's version."""
    query = (f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus: list[Gpu] = []
    driver: str | None = None
    for line in nvidia_smi(*query, within_seconds=_SECONDS):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != _QUERY.count(",") + 1:
            continue
        index, uuid, name, total, free, capability, driver = fields
        if not _is_chosen(index, uuid, chosen):
            continue
        gpus.append(
            Gpu(
                name=name,
                memory_gb=_gb(total) or 0.0,
                free_memory_gb=_gb(free),
                compute_capability=capability if capability[:1].isdigit() else None,
            )
        )
    return [gpu for gpu in gpus if gpu.memory_gb], driver


def _is_chosen(index: str, uuid: str, chosen: str | None) -> bool:
    if chosen is None:
        return True
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    return any(name == index or uuid.startswith(name) for name in names if name != "-1")


def _gb(mebibytes: str) -> float | None:
    # "[N/A]" where memory is the host's own, as on some integrated GPUs.
    return round(float(mebibytes) / 1024, 1) if mebibytes.replace(".", "").isdigit() else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
