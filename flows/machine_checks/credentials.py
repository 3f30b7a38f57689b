"""Keys and logins that a launch needs, and whether the job will have them. It never shows any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.core.checks.launch import Launch
from flows.core.checks.needs import API_KEYS
from flows.core.checks.recipe import Recipe
from flows.core.findings import FindingCode, Severity

_OFFLINE: Final = frozenset({"offline", "disabled", "dryrun"})


def check_credentials(launch: Launch, environ: Mapping[str, str]) -> None:
    """Note each variable that a recipe needs and the job will not have."""
    for recipe in launch.recipes:
        _check_engine(launch, recipe, environ)
        _check_wandb(launch, recipe, environ)


def _check_engine(launch: Launch, recipe: Recipe, environ: Mapping[str, str]) -> None:
    key, engine = recipe.engine
    if engine not in API_KEYS:
        return
    block = f"{key.rpartition('.')[0]}.remote_params".lstrip(".")
    if key.endswith("inference_engine"):
        block = key.replace("inference_engine", "inference_remote_params")
    if recipe.text(f"{block}.api_key"):
        return
    variable = recipe.text(f"{block}.api_key_env_varname") or API_KEYS[engine]
    if not _has(launch, recipe, environ, variable):
        _note(launch, recipe, f"{key} {engine} reads its key from {variable}", variable, key)


def _check_wandb(launch: Launch, recipe: Recipe, environ: Mapping[str, str]) -> None:
    key = "training.enable_wandb" if recipe.trains else "enable_wandb"
    if not recipe.flag(key) or _has(launch, recipe, environ, "WANDB_API_KEY"):
        return
    mode = recipe.envs.get("WANDB_MODE") or (
        environ.get("WANDB_MODE", "") if launch.target.is_local else ""
    )
    if mode in _OFFLINE or _has_netrc(launch):
        return
    _note(launch, recipe, f"{key} needs a login to Weights & Biases", "WANDB_API_KEY", key)


def _has(launch: Launch, recipe: Recipe, environ: Mapping[str, str], name: str) -> bool:
    if name in recipe.envs or (launch.target.is_local and environ.get(name)):
        return True
    scripts = f"{launch.job.setup.text}\n{launch.job.run.text}" if launch.job else ""
    return name in scripts


def _has_netrc(launch: Launch) -> bool:
    if launch.target.is_local:
        try:
            if "wandb" in Path("~/.netrc").expanduser().read_text(encoding="utf-8"):
                return True
        except (OSError, UnicodeDecodeError):
            pass
    job = launch.job
    text = f"{job.setup.text}\n{job.run.text}" if job else ""
    return job is not None and (
        any(place.endswith(".netrc") for place in job.file_mounts) or "wandb login" in text
    )


def _note(launch: Launch, recipe: Recipe, what: str, variable: str, key: str) -> None:
    is_local = launch.target.is_local
    where = "the environment of the worker" if is_local else "envs of the job config"
    is_sure = is_local and not (launch.job and launch.job.brings_environment)
    recipe.notes.add(
        # An image on a cloud may contain it, and here a file that a script loads.
        Severity.ERROR if is_sure else Severity.WARNING,
        FindingCode.CREDENTIAL_MISSING,
        f"{what}, which is not in {where}",
        f"Set {variable} there",
        key=key,
    )
