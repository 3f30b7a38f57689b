"""Write flows/core/configs/schema.json from the installed Oumi.

Run ``python -m flows.launcher.oumi.schema_export`` after a change of Oumi's version. The MCP server
checks configs against that file, because importing Oumi takes seconds.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import click
import oumi.core.configs as oumi_configs
import oumi.launcher
import typer.main
from omegaconf import MISSING
from oumi.analyze.config import TypedAnalyzeConfig
from oumi.cli.alias import AliasType, try_get_config_name_for_alias
from oumi.cli.cli_utils import get_aliases_for_type
from oumi.cli.main import get_app
from oumi.core.registry import REGISTRY, RegistryType

from flows.core.configs.schema import JUDGE_OPTIONS, SCHEMA_PATH, ConfigType, FieldSpec, Schema
from flows.core.models import Command

CONFIG_CLASSES: dict[ConfigType, type[Any]] = {
    ConfigType.TRAINING: oumi_configs.TrainingConfig,
    ConfigType.EVALUATION: oumi_configs.EvaluationConfig,
    ConfigType.INFERENCE: oumi_configs.InferenceConfig,
    ConfigType.TUNING: oumi_configs.TuningConfig,
    ConfigType.SYNTHESIS: oumi_configs.SynthesisConfig,
    ConfigType.QUANTIZATION: oumi_configs.QuantizationConfig,
    # `oumi analyze` 0.9 loads this one; it refuses the older AnalyzeConfig.
    ConfigType.ANALYZE: TypedAnalyzeConfig,
    ConfigType.JOB: oumi_configs.JobConfig,
    ConfigType.JUDGE: oumi_configs.JudgeConfig,
    ConfigType.ASYNC_EVALUATION: oumi_configs.AsyncEvaluationConfig,
}
_ALIAS_TYPES = {
    AliasType.TRAIN: ConfigType.TRAINING,
    AliasType.EVAL: ConfigType.EVALUATION,
    AliasType.INFER: ConfigType.INFERENCE,
    AliasType.JOB: ConfigType.JOB,
    AliasType.QUANTIZE: ConfigType.QUANTIZATION,
    AliasType.JUDGE: ConfigType.JUDGE,
    AliasType.TUNE: ConfigType.TUNING,
    AliasType.ANALYZE: ConfigType.ANALYZE,
    AliasType.SYNTH: ConfigType.SYNTHESIS,
}
_SCALARS = {str: "str", int: "int", float: "float", bool: "bool", Path: "path", Any: "any"}


def export_schema() -> Schema:
    """Describe the installed Oumi: its clouds, options, and the keys and types of its configs."""
    exporter = Exporter()
    roots = exporter.export_roots()
    _accept_short_analyzers(exporter.classes)
    # The command takes them as options; they are keys of overrides alone.
    exporter.classes[roots[ConfigType.JUDGE]] |= {
        key: {"kind": "path", "optional": True} for key in JUDGE_OPTIONS
    }
    return Schema(
        oumi=version("oumi"),
        clouds=_clouds(),
        options=_options(),
        commands=_commands(),
        aliases=_aliases(),
        roots=roots,
        enums=dict(sorted(exporter.enums.items())),
        classes=dict(sorted(exporter.classes.items())),
    )


def to_json(schema: Schema) -> str:
    """`schema` as JSON text, one field to a line."""
    classes = ",\n".join(
        f"{json.dumps(name)}: {_rows(fields)}" for name, fields in schema["classes"].items()
    )
    return (
        f'{{"oumi": {json.dumps(schema["oumi"])},\n"clouds": {json.dumps(schema["clouds"])},\n'
        f'"options": {_rows(schema["options"])},\n'
        f'"commands": {json.dumps(schema["commands"])},\n"aliases": {_rows(schema["aliases"])},\n'
        f'"roots": {json.dumps(schema["roots"])},\n'
        f'"enums": {_rows(schema["enums"])},\n"classes": {{\n{classes}}}}}\n'
    )


def _rows(entries: Mapping[Any, Any]) -> str:
    """A mapping as JSON text, one entry a line."""
    rows = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items())
    return "{\n" + ",\n".join(rows) + "}"


class Exporter:
    """Collects classes and enums while it walks the type hints."""

    def __init__(self) -> None:
        self.classes: dict[str, dict[str, FieldSpec]] = {}
        self.enums: dict[str, list[str]] = {}
        self.seen: dict[str, type[Any]] = {}

    def export_roots(self, *, without: ConfigType | None = None) -> dict[ConfigType, str]:
        """Collect every type of config except `without`; return the names of their classes."""
        return {
            kind: self.name_of(cls) for kind, cls in CONFIG_CLASSES.items() if kind is not without
        }

    def name_of(self, cls: type[Any]) -> str:
        """Collect the fields of `cls` once; return its name in the schema."""
        name = cls.__name__
        if self.seen.setdefault(name, cls) is not cls:
            raise ValueError(f"Two classes of Oumi are called {name}.")
        if issubclass(cls, Enum):
            self.enums[name] = list(cls.__members__)
        elif name not in self.classes:
            self.classes[name] = {}
            hints = get_type_hints(cls)
            for field in dataclasses.fields(cls):
                self.classes[name][field.name] = self._field(field, hints[field.name])
        return name

    def _field(self, field: "dataclasses.Field[Any]", hint: Any) -> FieldSpec:
        spec = self._spec(hint)
        no_default = field.default is dataclasses.MISSING
        if field.default == MISSING or (
            no_default and field.default_factory is dataclasses.MISSING
        ):
            spec["required"] = True
        elif isinstance(field.default, str) and not isinstance(field.default, Enum):
            spec["default"] = field.default
        elif isinstance(field.default, Enum):
            spec["initial"] = field.default.name
        elif isinstance(field.default, bool | int | float) and math.isfinite(field.default):
            spec["initial"] = field.default
        return spec

    def _spec(self, hint: Any) -> FieldSpec:
        if hint in _SCALARS:
            return {"kind": _SCALARS[hint]}
        origin = get_origin(hint) or hint
        arguments = get_args(hint)
        if origin in (Union, UnionType):
            return self._union(arguments)
        if origin is list:
            return {"kind": "list", "of": self._spec(arguments[0] if arguments else Any)}
        if origin is dict:
            key, value = arguments or (Any, Any)
            return {"kind": "dict", "keys": self._spec(key), "of": self._spec(value)}
        kind = "enum" if issubclass(origin, Enum) else "object"
        return {"kind": kind, "name": self.name_of(origin)}

    def _union(self, arguments: tuple[Any, ...]) -> FieldSpec:
        members = [self._spec(argument) for argument in arguments if argument is not NoneType]
        one: FieldSpec = {"kind": "union", "members": members}
        spec = members[0] if len(members) == 1 else one
        if NoneType in arguments:
            spec["optional"] = True
        return spec


def _clouds() -> dict[str, str]:
    """The name of every cloud and of its class. No cloud is built, because that may connect."""
    builders = cast(
        "dict[str, Callable[..., object]]",
        REGISTRY.get_all(RegistryType.CLOUD),  # pyright: ignore[reportUnknownMemberType]
    )
    return {
        name: get_type_hints(builders[name])["return"].__name__
        for name in sorted(set(oumi.launcher.which_clouds()))
    }


def _options() -> dict[Command, list[str]]:
    """The long options that each command declares, the negative ones included."""
    group = typer.main.get_command(get_app())
    commands = dict(cast("click.Group", group).commands)
    commands[Command.JUDGE] = cast("click.Group", commands[Command.JUDGE]).commands["dataset"]
    return {
        command: sorted(
            option.removeprefix("--")
            for parameter in commands[command].params
            for option in (*parameter.opts, *parameter.secondary_opts)
            if option.startswith("--")
        )
        for command in Command
    }


def _commands() -> dict[str, list[str]]:
    """Every command of Oumi, and the commands below it."""
    group = cast("click.Group", typer.main.get_command(get_app()))
    return {
        name: sorted(command.commands) if isinstance(command, click.Group) else []
        for name, command in sorted(group.commands.items())
    }


def _aliases() -> dict[str, dict[ConfigType, str]]:
    """The short names that Oumi's commands take for configs, and the path of each."""
    names = sorted({name for kind in AliasType for name in get_aliases_for_type(kind)})
    return {
        name: {
            config_type: path
            for kind, config_type in _ALIAS_TYPES.items()
            if (path := try_get_config_name_for_alias(name, kind)) != name
        }
        for name in names
    }


def _accept_short_analyzers(classes: dict[str, dict[str, FieldSpec]]) -> None:
    """Add what Oumi 0.9's ``TypedAnalyzeConfig.from_dict`` reads beyond its fields' types.

    An analyzer may be given as its type's name, and ``display_name`` as ``instance_id``.
    """
    classes["AnalyzerConfig"]["instance_id"] = {"kind": "str"}
    analyzers = classes["TypedAnalyzeConfig"]["analyzers"]
    members: list[FieldSpec] = [{"kind": "str"}, cast(FieldSpec, analyzers.get("of"))]
    analyzers["of"] = {"kind": "union", "members": members}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(to_json(export_schema()), encoding="utf-8")
