"""Oumi's own recipes, from its source distribution, which `scripts/provision` fetches."""

import copy
import random
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

from flows.core.checks.notes import Notes
from flows.core.checks.problems import note_unreadable
from flows.core.checks.recipe import guess_type
from flows.core.configs.checks import config_problems
from flows.core.configs.reader import ConfigFile, is_job_config
from flows.core.configs.schema import ConfigType, root_spec
from flows.core.configs.schema import fields_of as schema_fields
from flows.core.configs.yaml_text import dump_yaml
from flows.launcher.oumi.config_classes import oumi_problems

RECIPES: Final = Path(__file__).parents[2] / ".cache" / f"oumi-{version('oumi')}" / "configs"


def recipe_files() -> list[Path]:
    return sorted(RECIPES.rglob("*.yaml"))


def type_of(data: dict[str, Any]) -> ConfigType:
    return ConfigType.JOB if is_job_config(data) else guess_type(data)


def refused_by_us(config: ConfigFile, config_type: ConfigType) -> list[str]:
    """What validate_config reports as Oumi's refusals, without the engine."""
    notes = Notes(str(config.path), None)
    note_unreadable(notes, config, config_type)
    found = [finding.message for finding in notes.findings]
    found += [problem.message for problem in config_problems(config.data, config_type)]
    if found:
        return found
    asked = oumi_problems(config.data, config_type, folder=Path.cwd())
    return [f"{problem.key}: {problem.message}" for problem in asked]


def refused_by_oumi(path: Path, config_type: ConfigType) -> str:
    """Why Oumi does not load a config; empty if it does."""
    from huggingface_hub import constants

    from flows.launcher.oumi.schema_export import CONFIG_CLASSES

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        config: Any = CONFIG_CLASSES[config_type].from_yaml(str(path))
        # The typed config of `oumi analyze` checks itself while it is built.
        getattr(config, "finalize_and_validate", lambda: None)()
    except Exception as error:  # noqa: BLE001 - whatever it is, Oumi refuses the config
        return f"{type(error).__name__}: {error}"
    finally:
        constants.HF_HUB_OFFLINE = before
    return ""


def mutants(data: dict[str, Any], config_type: ConfigType, seed: int) -> Iterator[tuple[str, str]]:
    """Eight mutants of a config: the name of each, and its text."""
    drawn = random.Random(seed)
    leaves = list(_leaves(data))
    for name in ("swap", "unknown", "text", "list", "null", "negative", "enum", "drop"):
        content = copy.deepcopy(data)
        parents, key, value = drawn.choice(_fitting(leaves, name) or leaves)
        at: Any = content
        for parent in parents:
            at = at[parent]
        match name:
            case "swap":
                at[_misspelt(str(key), drawn)] = at.pop(key)
            case "unknown":
                content["trainin" if config_type is ConfigType.TRAINING else "modle"] = {"a": 1}
            case "text":
                at[key] = "many"
            case "list":
                at[key] = [value]
            case "null":
                at[key] = None
            case "negative":
                at[key] = -7
            case "enum":
                at[key] = f"{value}_X"
            case _:
                required = [one for one in schema_fields(root_spec(config_type)) if one in content]
                del content[drawn.choice(required or list(content))]
        yield f"{name} {'.'.join(map(str, [*parents, key]))}", dump_yaml(content)


def _fitting(leaves: list[tuple[list[Any], Any, Any]], name: str) -> list[Any]:
    def fits(value: object) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in ("text", "negative"):
            return is_number
        if name == "enum":
            return isinstance(value, str) and value.isupper()
        return True

    return [one for one in leaves if fits(one[2])]


def _misspelt(key: str, drawn: random.Random) -> str:
    at = drawn.randrange(max(1, len(key) - 1))
    swapped = key[:at] + key[at + 1 : at + 2] + key[at : at + 1] + key[at + 2 :]
    return swapped if swapped != key else f"{key}x"


def _leaves(value: object, parents: tuple[Any, ...] = ()) -> Iterator[tuple[list[Any], Any, Any]]:
    """Every value in mappings: the keys above it, its key and itself."""
    if isinstance(value, dict):
        for key, entry in cast("dict[Any, Any]", value).items():
            if isinstance(entry, dict | list) and entry:
                yield from _leaves(cast("object", entry), (*parents, key))
            else:
                yield [*parents], key, entry
    elif isinstance(value, list):
        for index, entry in enumerate(cast("list[Any]", value)):
            yield from _leaves(entry, (*parents, index))
