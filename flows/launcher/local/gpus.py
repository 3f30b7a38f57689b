"""The GPUs of this machine, without a framework. Standard library, and NVML.

NVML does not use CUDA, whose context takes memory on each GPU for as long as the process lives.
"""

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from flows.core.names import DEVICES_ENV

T = TypeVar("T")

_SECONDS: Final = 5.0
"""A driver in trouble can take for ever."""
_DRIVER: Final = Path("/dev/nvidiactl")


class GpuDevice(NamedTuple):
    """A GPU, or a MIG instance of one, that CUDA can use.

    Attributes:
        name: What ``CUDA_VISIBLE_DEVICES`` calls it.
        uuid: Its own name on every machine; empty without NVML.
        model: What its maker calls it.
        memory_bytes: Its memory; None: it has none of its own, or does not report it.
        free_bytes: What nothing uses.
        capability: Its compute capability, as ``9.0``; empty: unknown.
        is_mig: Whether it is a MIG instance. CUDA uses one in a process, and joins none.
    """

    name: str
    uuid: str = ""
    model: str = ""
    memory_bytes: int | None = None
    free_bytes: int | None = None
    capability: str = ""
    is_mig: bool = False


class Gpus(NamedTuple):
    """The GPUs that a process started from here would see.

    Attributes:
        devices: The GPUs.
        driver: The version of the driver; None: NVML did not answer, and the devices are those
            that ``CUDA_VISIBLE_DEVICES`` names.
    """

    devices: list[GpuDevice]
    driver: str | None


def read_gpus(nvml: Any = None) -> Gpus:
    """Read the GPUs; blocks for up to 5 s.

    Args:
        nvml: The module ``pynvml``; None: load it if this machine has NVIDIA's driver.
    """
    nvml = nvml or load_nvml()
    chosen = os.environ.get(DEVICES_ENV)
    seen = _in_time(lambda: _read_all(nvml)) if nvml is not None else None
    if seen is None:
        return Gpus([GpuDevice(name) for name in _names(chosen)], None)
    return Gpus(_choose(seen.devices, chosen), seen.driver)


def find_handles(nvml: Any, names: str) -> list[Any]:
    """The handles of devices, as ``CUDA_VISIBLE_DEVICES`` names them; empty: of every GPU."""
    if not names:
        return [handle for _, handle in _handles(nvml)]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(name))
        if name.isdecimal()
        else nvml.nvmlDeviceGetHandleByUUID(name)
        for name in _names(names)
    ]


def load_nvml() -> Any:
    """Load ``pynvml``; None if this machine has no driver of NVIDIA."""
    if not _DRIVER.exists():
        return None
    with suppress(ImportError):
        return importlib.import_module("pynvml")
    return None


def _names(chosen: str | None) -> list[str]:
    """The entries before the first one that is no device, where CUDA stops, too."""
    names: list[str] = []
    for entry in (chosen or "").split(","):
        name = entry.strip()
        if not name or name.startswith("-") or name in names:
            break
        names.append(name)
    return names


def _choose(devices: list[GpuDevice], chosen: str | None) -> list[GpuDevice]:
    if chosen is None:
        return devices
    found: list[GpuDevice] = []
    for name in _names(chosen):
        device = next((one for one in devices if _is_named(one, name)), None)
        if device is None:
            break
        found.append(device._replace(name=name))
    return found


def _is_named(device: GpuDevice, name: str) -> bool:
    """Whether an entry of ``CUDA_VISIBLE_DEVICES`` means the device; UUIDs may be shortened."""
    return device.name == name or (not name.isdecimal() and device.uuid.startswith(name))


def _read_all(nvml: Any) -> Gpus | None:
    """Read every device of the machine; None: NVML does not work here."""
    with suppress(nvml.NVMLError):
        nvml.nvmlInit()
        try:
            driver = _ask(nvml, nvml.nvmlSystemGetDriverVersion) or ""
            devices = [one for number, gpu in _handles(nvml) for one in _read(nvml, gpu, number)]
        finally:
            nvml.nvmlShutdown()
        return Gpus(devices, str(driver))
    return None


def _handles(nvml: Any) -> Iterator[tuple[int, Any]]:
    """Number and handle of each GPU; a GPU that fell off the bus has none."""
    for number in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            yield number, nvml.nvmlDeviceGetHandleByIndex(number)


def _read(nvml: Any, gpu: Any, number: int) -> Iterator[GpuDevice]:
    """The device, or the instances that it is divided into."""
    mode = _ask(nvml, nvml.nvmlDeviceGetMigMode, gpu)
    whole = _device(nvml, gpu, str(number))
    if not mode or not mode[0]:
        yield whole
        return
    for index in range(_ask(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        part = _ask(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, index)
        if part is not None:
            found = _device(nvml, part, "")
            model = found.model or f"{whole.model} MIG"
            yield found._replace(
                name=found.uuid, model=model, capability=whole.capability, is_mig=True
            )


def _device(nvml: Any, handle: Any, name: str) -> GpuDevice:
    memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _ask(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return GpuDevice(
        name=name,
        uuid=str(_ask(nvml, nvml.nvmlDeviceGetUUID, handle) or ""),
        model=str(_ask(nvml, nvml.nvmlDeviceGetName, handle) or "GPU"),
        memory_bytes=memory.total if memory and memory.total else None,
        free_bytes=memory.free if memory and memory.total else None,
        capability=".".join(map(str, capability)) if capability else "",
    )


def _ask(nvml: Any, read: Callable[..., T], *arguments: Any) -> T | None:
    """Ask one thing; None if the device does not report it, or not as UTF-8."""
    with suppress(nvml.NVMLError, UnicodeDecodeError):
        return read(*arguments)
    return None


def _in_time(call: Callable[[], T | None]) -> T | None:
    """Call in a thread; None if it takes too long."""
    found: list[T | None] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return found[0] if found else None
