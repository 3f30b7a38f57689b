"""Whether the machine that runs the job has the GPUs, packages and space that it needs."""

import re
from pathlib import Path
from typing import Final

from flows.core.checks.launch import Launch
from flows.core.checks.memory import (
    GpuRoom,
    check_disk,
    check_free,
    check_memory,
    parameters,
    room_of,
)
from flows.core.checks.needs import packages
from flows.core.checks.processes import check_granted, gpus_of
from flows.core.checks.recipe import Recipe
from flows.core.configs.processes import ALL, STARTS_ITS_OWN
from flows.core.configs.schema import ConfigType
from flows.core.findings import FindingCode, Hardware
from flows.launcher.oumi.machine import Machine

_NEED_CUDA: Final = frozenset({"flash_attn", "bitsandbytes", "vllm", "deepspeed", "verl"})
TORCH: Final = ((2, 6), (2, 13))
"""The versions of torch that Oumi 0.9 requires: from, and below; a test compares them."""

_MANY: Final = 2e9
"""Parameters from which a training on CPUs takes days."""

_EXTRAS: Final = {
    "flash_attn": ("flash-attn", "flash_attn"),
    "bitsandbytes": ("bitsandbytes", "gpu", "quantization"),
    "liger_kernel": ("liger", "gpu"),
    "vllm": ("vllm", "gpu"),
    "verl": ("verl", "gpu"),
    "deepspeed": ("deepspeed",),
    "llama_cpp": ("llama", ),
    "optuna": ("optuna", "tune"),
    "awq": ("autoawq", "quantization"),
    "wandb": ("oumi", "wandb"),
    "mlflow": ("mlflow",),
}  # fmt: skip
"""Words in an install command that also install a package (oumi 0.9's extras)."""


def check_hardware(launch: Launch, machine: Machine, hardware: Hardware) -> None:
    """Note what the worker's machine lacks if the job runs there, else what setup must install."""
    granted = gpus_granted(launch, machine)
    if launch.target.is_local:
        check_granted(launch, granted=granted, there=machine.gpu_count())
    for recipe in launch.recipes:
        if launch.target.is_local:
            _check_here(launch, recipe, machine, hardware)
            _check_room(launch, recipe, hardware, granted)
        elif launch.target.is_sky:
            _check_setup(launch, recipe)


def gpus_granted(launch: Launch, machine: Machine) -> int:
    """How many GPUs of the worker's machine the job gets."""
    if launch.gpus is None:
        return machine.gpus_of_job()
    return machine.gpu_count() if launch.gpus == ALL else launch.gpus


def count_of(launch: Launch, recipe: Recipe, machine: Machine) -> int | None:
    """How many processes a training has; None: unknown."""
    if recipe.processes is not None:
        return recipe.processes
    if launch.target.is_local:
        return gpus_granted(launch, machine) or None
    return gpus_of(launch.target)


def _check_here(launch: Launch, recipe: Recipe, machine: Machine, hardware: Hardware) -> None:
    has_own = launch.job is not None and (
        launch.job.brings_environment or "install" in launch.job.setup.text + launch.job.run.text
    )
    has_gpu = hardware.accelerator_type in ("cuda", "other")
    for package in packages(recipe):
        if not machine.has_package(package.name):
            note = recipe.notes.warning if has_own else recipe.notes.error
            note(
                FindingCode.PACKAGE_MISSING,
                f"{package.key} needs {package.name}, which is not installed for the worker",
                f"pip install '{package.install}', or change {package.key}",
                key=package.key,
            )
        elif package.name in _NEED_CUDA and not has_gpu:
            recipe.notes.error(
                FindingCode.NO_GPU,
                f"{package.key} needs a CUDA GPU, and the worker's machine has none",
                f"Change {package.key}, or run it on a cloud with GPUs",
                key=package.key,
            )
    if hardware.accelerator_type == "none":
        _check_precision(recipe)
    if not has_own:
        _check_torch(recipe, machine, hardware)
    if recipe.base is not None and "$" not in recipe.output[1]:
        folder = recipe.base / Path(recipe.output[1])
        check_disk(launch, recipe, free_gb=machine.free_disk_gb(folder))


def _check_precision(recipe: Recipe) -> None:
    """Note bf16 on CPUs, which Transformers 5.16 refuses unless `use_cpu` is set."""
    key = "training.mixed_precision_dtype"
    of_transformers = recipe.trainer not in ("OUMI", STARTS_ITS_OWN)
    uses_cpu = recipe.flag("training.trainer_kwargs.use_cpu")
    if recipe.text(key).endswith("BF16") and of_transformers and not uses_cpu:
        recipe.notes.error(
            FindingCode.NO_GPU,
            f"{key} is BF16, and the worker's machine has no GPU",
            "Set training.trainer_kwargs.use_cpu: true, or run it on a cloud with GPUs",
            key=key,
        )


def _check_torch(recipe: Recipe, machine: Machine, hardware: Hardware) -> None:
    torch = hardware.packages.get("torch", "")
    if not torch or not recipe.loads_model:
        return
    if hardware.accelerator_type == "cuda" and machine.torch_build() in ("cpu", "hip"):
        recipe.notes.error(
            FindingCode.PACKAGE_MISSING,
            f"torch {torch} is built without CUDA, so the GPUs are not used",
            "Install a CUDA build of torch for the worker",
        )
    numbers = re.match(r"(\d+)\.(\d+)", torch)
    if numbers and not TORCH[0] <= (int(numbers[1]), int(numbers[2])) < TORCH[1]:
        oldest, too_new = (".".join(map(str, bound)) for bound in TORCH)
        recipe.notes.warning(
            FindingCode.PACKAGE_MISSING,
            f"torch {torch} is installed, and Oumi requires torch>={oldest},<{too_new}",
            f"pip install 'torch>={oldest},<{too_new}'",
        )


def _check_room(launch: Launch, recipe: Recipe, hardware: Hardware, granted: int) -> None:
    gpus = hardware.gpus
    if granted > 1 and recipe.trains and any(" MIG " in gpu.name for gpu in gpus):
        launch.notes.error(
            FindingCode.TOO_MANY_GPUS,
            f"the job gets {granted} MIG instances, and CUDA joins no MIG instances",
            "Leave gpus out, or turn MIG off",
        )
    if gpus and recipe.loads_model and recipe.config_type is not ConfigType.ANALYZE:
        check_free(recipe, gpus, granted=granted)
    room = room_of(launch, gpus, granted=granted)
    if room is not None:
        check_memory(recipe, room)
        return
    if hardware.accelerator_type != "none":
        return
    if hardware.memory_gb:
        check_memory(recipe, GpuRoom(hardware.memory_gb, 1, "machine without GPUs"))
    params = parameters(recipe)
    if recipe.trains and params is not None and params >= _MANY:
        recipe.notes.warning(
            FindingCode.NO_GPU,
            f"the worker's machine has no GPU, and {recipe.model_name} has "
            f"{params / 1e9:.3g} billion parameters to train on CPUs",
            "Run it on a cloud with GPUs, as guidance://cloud-launch shows",
            key="model.model_name",
        )


def _check_setup(launch: Launch, recipe: Recipe) -> None:
    job = launch.job
    if job is None or job.resources.get("image_id") or job.resources.get("image_id_map"):
        return
    text = f"{job.setup.text}\n{job.run.text}"
    if job.brings_environment:
        return
    installs = " ".join(re.findall(r"install\b[^\n;&|]*", text))
    for package in packages(recipe):
        if not any(word in installs for word in _EXTRAS.get(package.name, (package.name,))):
            recipe.notes.warning(
                FindingCode.PACKAGE_MISSING,
                f"{package.key} needs {package.name}, which setup does not install",
                f"Add `pip install '{package.install}'` to setup",
                key=package.key,
            )
