"""The keys and types of Oumi's configs, as exported from Oumi into schema.json."""

import json
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final, Required, TypedDict, cast

from flows.core.models import Command

SCHEMA_PATH: Final = Path(__file__).with_name("schema.json")


class ConfigType(StrEnum):
    """The types of config that Oumi reads."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    INFERENCE = "inference"
    TUNING = "tuning"
    SYNTHESIS = "synthesis"
    QUANTIZATION = "quantization"
    ANALYZE = "analyze"
    JOB = "job"
    JUDGE = "judge"
    ASYNC_EVALUATION = "async_evaluation"


CONFIG_TYPE: Final[dict[Command, ConfigType]] = {
    Command.TRAIN: ConfigType.TRAINING,
    Command.ANALYZE: ConfigType.ANALYZE,
    Command.SYNTH: ConfigType.SYNTHESIS,
    Command.EVALUATE: ConfigType.EVALUATION,
    Command.INFER: ConfigType.INFERENCE,
    Command.TUNE: ConfigType.TUNING,
    Command.QUANTIZE: ConfigType.QUANTIZATION,
    Command.JUDGE: ConfigType.JUDGE,
}
"""The type of config that each command loads."""


JUDGE_OPTIONS: Final = {"input_path": "--input", "output_path": "--output"}
"""Keys of overrides that `oumi judge` 0.9 takes as options alone; its config has no such keys."""


class FieldSpec(TypedDict, total=False):
    """The type of one value.

    ``kind`` is ``str int float bool path any enum list dict object union``. ``of`` is the type of
    a list's items or a mapping's values, ``keys`` of a mapping's keys, ``name`` the enum or class,
    ``members`` the types of a union. Oumi's own value is ``default`` if it is a text, else
    ``initial``.
    """

    kind: Required[str]
    of: "FieldSpec"
    keys: "FieldSpec"
    name: str
    members: "list[FieldSpec]"
    optional: bool
    required: bool
    default: str
    initial: str | int | float | bool


class Schema(TypedDict):
    """The content of schema.json."""

    oumi: str
    clouds: dict[str, str]
    options: dict[Command, list[str]]
    commands: dict[str, list[str]]
    aliases: dict[str, dict[ConfigType, str]]
    roots: dict[ConfigType, str]
    enums: dict[str, list[str]]
    classes: dict[str, dict[str, FieldSpec]]


@cache
def load_schema() -> Schema:
    """The schema of the Oumi version this package was built against."""
    return cast(Schema, json.loads(SCHEMA_PATH.read_text(encoding="utf-8")))


def options_of(command: Command) -> list[str]:
    """The long options that a command declares itself, besides the keys of its config."""
    return load_schema()["options"][command]


def commands_of_oumi() -> dict[str, list[str]]:
    """Every command of Oumi, and the commands below it."""
    return load_schema()["commands"]


def aliases_of_oumi() -> dict[str, dict[ConfigType, str]]:
    """The short names that Oumi's commands take for configs: for each type of config a path."""
    return load_schema()["aliases"]


def root_spec(config_type: ConfigType) -> FieldSpec:
    """The type of a whole config."""
    return {"kind": "object", "name": load_schema()["roots"][config_type]}


def fields_of(spec: FieldSpec) -> dict[str, FieldSpec]:
    """The fields of an ``object``."""
    return load_schema()["classes"][spec.get("name", "")]


def initial_value(config_type: ConfigType, key: str) -> object:
    """Oumi's own value of a dotted key; None: it has none, or it is no single value."""
    spec = root_spec(config_type)
    for part in key.split("."):
        if spec["kind"] != "object" or part not in fields_of(spec):
            return None
        spec = fields_of(spec)[part]
    return spec.get("initial", spec.get("default"))


def enum_members(spec: FieldSpec) -> list[str]:
    """The names an ``enum`` accepts."""
    return load_schema()["enums"][spec.get("name", "")]


def dotted_keys(config_type: ConfigType) -> Iterator[str]:
    """Every key of a config that is reached only through mappings, as a dotted path."""
    yield from _dotted_keys(root_spec(config_type), "")


def describe(spec: FieldSpec) -> str:
    """Describe a type: ``int``, ``list of str``, ``one of A, B``."""
    match spec["kind"]:
        case "enum":
            text = "one of " + ", ".join(enum_members(spec))
        case "list":
            text = f"a list of {describe(_of(spec))}"
        case "dict" | "object":
            text = "a mapping"
        case "union":
            text = " or ".join(describe(member) for member in spec.get("members", []))
        case "path":
            text = "a path"
        case "any":
            text = "any value"
        case kind:
            text = kind
    return f"{text} or null" if spec.get("optional") else text


def _of(spec: FieldSpec) -> FieldSpec:
    return spec.get("of", {"kind": "any"})


def _dotted_keys(spec: FieldSpec, prefix: str) -> Iterator[str]:
    for key, field in fields_of(spec).items():
        yield f"{prefix}{key}"
        if field["kind"] == "object":
            yield from _dotted_keys(field, f"{prefix}{key}.")
