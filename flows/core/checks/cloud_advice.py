"""Advice on what the config of one command needs to run on a cloud, inside a job config."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from flows.core.checks.launch import Launch
from flows.core.checks.memory import needed_gb
from flows.core.checks.needs import packages
from flows.core.checks.recipe import Recipe
from flows.core.checks.target import GPU_MODELS
from flows.core.configs.schema import CONFIG_TYPE
from flows.core.findings import FindingCode
from flows.core.models import Command

_ROOM: Final = 1.2
"""Memory to ask for, beside what a model takes: activations need some."""
_LEAST_GB: Final = 0.1
"""Models below run well without a GPU."""
_USUAL: Final = ("L4", "A100", "A100-80GB")
_COUNTS: Final = (2, 4, 8)


def note_cloud_advice(launch: Launch) -> None:
    """Note what a job config needs that runs this config on the target; nothing here blocks."""
    for recipe in launch.recipes:
        _note_job_config(launch, recipe)
        _note_gpus(recipe)
        key, output = recipe.output
        if output and recipe.get(key) and launch.target.is_rented:
            recipe.notes.warning(
                FindingCode.EPHEMERAL_OUTPUT,
                f"{key} is {output}, on the cluster's own disk, which is lost when the cluster is "
                "deleted",
                "Write to a path under storage_mounts of the job config",
                key=key,
            )


def _note_job_config(launch: Launch, recipe: Recipe) -> None:
    cloud = launch.target.cloud
    installs = " ".join(dict.fromkeys(["oumi[gpu]", *(one.install for one in packages(recipe))]))
    installs = " ".join(f"'{one}'" if "[" in one else one for one in installs.split())
    command = next((c for c in Command if CONFIG_TYPE[c] is recipe.config_type), None)
    run = f"oumi {command} -c {PurePath(recipe.path).name}" if command else "its command"
    recipe.notes.warning(
        FindingCode.NEEDS_JOB_CONFIG,
        f"on {cloud} this config runs inside a job config, so this is advice for one",
        f"Write it as guidance://cloud-launch shows: resources.cloud {cloud}, working_dir ., setup "
        f"with `pip install {installs}`, run with `{run}`",
    )


def _note_gpus(recipe: Recipe) -> None:
    need = needed_gb(recipe)
    if need is None or need < _LEAST_GB:
        return
    meant = recipe.written_for
    name, count = _accelerators(need * _ROOM)
    said = f", and it is written for {meant} GPUs" if meant and meant > 1 else ""
    recipe.notes.warning(
        FindingCode.NEEDS_GPUS,
        f"{recipe.model_name} takes about {need:.3g} GB of GPU memory{said}",
        f"Ask for GPUs with more in all, such as resources.accelerators: {name}:"
        f"{max(count, meant or 1)}",
        key=f"{recipe.model_keys[0]}.model_name" if recipe.model_keys else "",
    )


def _accelerators(need: float) -> tuple[str, int]:
    """The smallest usual GPUs that have so many GB."""
    several = ((_USUAL[-1], count) for count in _COUNTS)
    sizes: Iterator[tuple[str, int]] = iter([*((name, 1) for name in _USUAL), *several])
    return next(
        (one for one in sizes if GPU_MODELS[one[0]].memory_gb * one[1] >= need), ("H200", 8)
    )
