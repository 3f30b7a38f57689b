"""Check that a training gets the processes and GPUs that it needs."""

from flows.core.checks.launch import Launch
from flows.core.checks.recipe import Recipe
from flows.core.checks.target import Target
from flows.core.configs.processes import SHARDED, STARTS_ITS_OWN
from flows.core.configs.schema import ConfigType
from flows.core.findings import FindingCode, Severity


def check_processes(launch: Launch) -> None:
    """Note trainings that cannot work in the one process that they get, as far as files say."""
    for recipe in launch.recipes:
        if recipe.processes is not None:
            _check(recipe, recipe.processes, _way(launch, recipe))
        elif not launch.target.is_local and (count := gpus_of(launch.target)):
            _check(recipe, count, "Ask for more GPUs in resources.accelerators")


def gpus_of(target: Target) -> int | None:
    """The GPUs that a job config requests, on all nodes; None: none that are known."""
    asked = target.accelerator
    return int(asked.number * target.num_nodes) or None if asked is not None else None


def check_granted(launch: Launch, *, granted: int, there: int) -> None:
    """Note what depends on the GPUs of the worker's machine, where the job runs.

    Args:
        launch: The launch.
        granted: GPUs that the job gets.
        there: GPUs of the machine.
    """
    if granted > there or (launch.gpus is not None and not there):
        launch.notes.error(
            FindingCode.TOO_MANY_GPUS,
            f"gpus is {launch.gpus}, and the worker's machine has {there or 'none'}",
            f"Ask for {there} or fewer, or run it on a cloud with more"
            if there
            else "Leave gpus out, or run it on a cloud with GPUs",
        )
        return
    for recipe in launch.recipes:
        if recipe.processes is None:
            # A script may choose its GPUs and processes itself.
            _check(recipe, granted, _way(launch, recipe), is_certain=launch.job is None)


def _way(launch: Launch, recipe: Recipe) -> str:
    """How the training gets more processes."""
    if launch.job is not None and recipe.processes == 1:
        return "Run it with `oumi distributed torchrun -m oumi train`"
    if launch.gpus == 1 or not launch.target.is_local:
        return "Ask for more GPUs"
    return f"Set gpus to {recipe.written_for or 'a number'} or to all"


def _check(recipe: Recipe, processes: int, way: str, *, is_certain: bool = True) -> None:
    key = next((key for key in SHARDED if recipe.flag(key)), "")
    is_training = recipe.config_type is ConfigType.TRAINING
    if not key or processes != 1 or not is_training or recipe.trainer == STARTS_ITS_OWN:
        return
    recipe.notes.add(
        Severity.ERROR if is_certain else Severity.WARNING,
        FindingCode.NEEDS_GPUS,
        f"{key} spreads the training over the processes of several GPUs, and it gets one process",
        f"{way}, or set {key}: false",
        key=key,
    )
