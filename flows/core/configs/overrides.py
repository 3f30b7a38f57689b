"""Overrides: dotted Oumi keys and the values that replace a config's."""

import copy
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from flows.core.configs.checks import Problem, join_problems, shorten, unknown_key, value_problems
from flows.core.configs.schema import CONFIG_TYPE, ConfigType, FieldSpec, fields_of, root_spec
from flows.core.errors import InvalidArgument
from flows.core.models import Command, OverrideValue

ANALYZE_OPTIONS: Final = {
    "dataset_name": "--dataset_name",
    "dataset_path": "--dataset_path",
    "sample_count": "--sample_count",
    "output_path": "--output",
}
"""`oumi analyze` 0.9 reads these options and ignores every dotted key."""

_KEY: Final = re.compile(r"[A-Za-z_][\w-]*(?:\[\d+\]|\.[\w-]+)*")
_PART: Final = re.compile(r"[\w-]+")
_ANY: Final[FieldSpec] = {"kind": "any"}


class _Found(NamedTuple):
    spec: FieldSpec | None
    problem: Problem | None


def check_overrides(overrides: Mapping[str, OverrideValue], command: Command) -> None:
    """Check the keys of overrides and the types of their values.

    Raises:
        InvalidArgument: With the first ten problems found.
    """
    problems = [
        problem
        for key, value in overrides.items()
        for problem in override_problems(key, value, command)
    ]
    if problems:
        raise InvalidArgument(
            f"overrides for oumi {command}: {join_problems(problems)}",
            "Use dotted keys of the config, such as training.max_steps",
        )


def override_problems(key: str, value: OverrideValue, command: Command) -> list[Problem]:
    """Find all problems of one override."""
    spec, problem = _find(key, command)
    if problem:
        return [problem]
    if command is Command.ANALYZE and value is None:
        return [Problem(key, f"{key} cannot be null on the command line of analyze")]
    return value_problems(spec, value, key, CONFIG_TYPE[command]) if spec is not None else []


def override_key_problem(key: str, command: Command) -> Problem | None:
    """Find the problems of the key of an override with an unknown value."""
    return _find(key, command).problem


def apply_overrides(
    data: Mapping[str, Any], overrides: Mapping[str, OverrideValue], command: Command
) -> dict[str, Any]:
    """Copy a config and apply checked overrides to the copy.

    Raises:
        InvalidArgument: A key goes through a part that the config does not have.
    """
    merged = copy.deepcopy(dict(data))
    for key, value in overrides.items():
        *parents, leaf = _PART.findall(key)
        holder = _descend(merged, parents, key, CONFIG_TYPE[command])
        if isinstance(holder, list):
            holder[_index(leaf, holder, key)] = value
        else:
            holder[leaf] = value
    return merged


def _find(key: str, command: Command) -> _Found:
    """The type of an override's value, or the problem of its key."""
    if not _KEY.fullmatch(key):
        return _Found(None, Problem(key, f"{shorten(repr(key))} is not a dotted key"))
    config_type = CONFIG_TYPE[command]
    if command is Command.ANALYZE and key not in ANALYZE_OPTIONS:
        names = ", ".join(ANALYZE_OPTIONS)
        return _Found(None, Problem(key, f"analyze can override only {names}, not {shorten(key)}"))
    return _find_spec(key, config_type)


def _find_spec(key: str, config_type: ConfigType) -> _Found:
    spec = root_spec(config_type)
    path = ""
    for part in _PART.findall(key):
        path = f"{path}.{part}" if path else part
        match spec["kind"]:
            case "object" if part not in fields_of(spec):
                return _Found(None, unknown_key(path, fields_of(spec), config_type))
            case "list" if not part.isdecimal():
                return _Found(None, _no_part(path, key))
            case "object" | "list" | "dict":
                spec = _child(spec, part)
            case "any":
                break
            case _:
                return _Found(None, _no_part(path, key))
    return _Found(spec, None)


def _no_part(path: str, key: str) -> Problem:
    parent = path.rpartition(".")[0]
    return Problem(key, f"unknown key {shorten(key)}: {parent} has none")


def _descend(
    merged: dict[str, Any], parents: list[str], key: str, config_type: ConfigType
) -> dict[str, Any] | list[Any]:
    """Find the mapping or list that an override sets a value in; make it if Oumi has a default."""
    spec = root_spec(config_type)
    here: dict[str, Any] | list[Any] = merged
    path = ""
    for part in parents:
        path = f"{path}.{part}" if path else part
        spec = _child(spec, part)
        child = _child_value(here, part, spec, key)
        if not isinstance(child, dict | list):
            raise InvalidArgument(
                f"override {shorten(key)}: the config does not set {path}",
                f"Add {path} to the config file",
            )
        here = cast("dict[str, Any] | list[Any]", child)
    return here


def _child_value(here: dict[str, Any] | list[Any], part: str, spec: FieldSpec, key: str) -> object:
    """The value of a part; an empty mapping is put in where Oumi has a default."""
    if isinstance(here, list):
        return here[_index(part, here, key)]
    has_default = spec["kind"] in ("object", "dict", "any") and not spec.get("optional")
    return here.setdefault(part, {}) if has_default else here.get(part)


def _child(spec: FieldSpec, part: str) -> FieldSpec:
    if spec["kind"] == "object":
        return fields_of(spec)[part]
    return spec.get("of", _ANY)


def _index(part: str, items: list[Any], key: str) -> int:
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    raise InvalidArgument(
        f"override {shorten(key)}: the list has {len(items)} items, none is [{part}]",
        "Count from 0",
    )
