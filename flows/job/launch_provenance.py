"""The provenance of a launch: hashes of its config and of the configs that its scripts load."""

from pathlib import Path

from flows.core.checks.launch import Launch
from flows.core.configs.plan import lookup
from flows.core.configs.reader import ConfigFile, ConfigKind
from flows.core.configs.schema import ConfigType
from flows.core.models import Command
from flows.core.provenance import Provenance, Source, provenance


def read_provenance(config: ConfigFile, launch: Launch, *, client_cwd: str) -> Provenance:
    """Read what a launch runs on: config, code, packages, data. Blocking, maybe for long.

    Args:
        config: The config as submitted.
        launch: The same config with those that it names.
        client_cwd: Absolute folder that relative paths start from.
    """
    folder = Path(client_cwd)
    sources = [Source(config.data, folder)] if config.kind is ConfigKind.JOB else []
    sources += [
        Source(
            recipe.data,
            folder if recipe.base is None else recipe.base,
            "" if config.kind is ConfigKind.COMMAND else recipe.path,
        )
        for recipe in launch.recipes
    ]
    seeds = [
        lookup(recipe.data, Command.TRAIN, "training.seed")
        for recipe in launch.recipes
        if recipe.config_type is ConfigType.TRAINING
    ]
    seed = next((seed for seed in seeds if isinstance(seed, int)), None)
    return provenance(sources, client_cwd=client_cwd, seed=seed)
