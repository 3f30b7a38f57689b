"""Check configs and overrides against the keys and types of Oumi's own config classes."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from flows.core.configs.reader import is_job_config
from flows.core.configs.schema import (
    CONFIG_TYPE,
    ConfigType,
    FieldSpec,
    describe,
    dotted_keys,
    enum_members,
    fields_of,
    root_spec,
)
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.models import Command

MISSING: Final = "???"
"""What Oumi reads as "not set"."""

_MAX_SHOWN: Final = 10
_MAX_VALUE: Final = 60
_ALIASES: Final = {"eval": Command.EVALUATE, "synthesize": Command.SYNTH}
_ANY: Final[FieldSpec] = {"kind": "any"}
_TRUE_FALSE: Final = frozenset({"yes", "y", "on", "true", "no", "n", "off", "false"})


class ProblemKind(StrEnum):
    """The kind of problem of a key."""

    UNKNOWN_KEY = "unknown_key"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"


class Problem(NamedTuple):
    """A problem of one key of a config; `message` also names the key."""

    key: str
    message: str
    kind: ProblemKind = ProblemKind.WRONG_TYPE
    nearest: str = ""


def parse_command(text: str) -> Command:
    """Parse the name of an Oumi command.

    Raises:
        InvalidArgument: There is no such command.
    """
    lowered = text.strip().lower()
    if lowered in _ALIASES:
        return _ALIASES[lowered]
    try:
        return Command(lowered)
    except ValueError as error:
        names = [command.value for command in Command]
        close = get_close_matches(text, [*names, *_ALIASES], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InvalidArgument(
            f"unknown command {shorten(text)}{hint}", f"Use one of {', '.join(names)} (eval)"
        ) from error


def check_config(data: Mapping[str, Any], command: Command, *, name: str = "the config") -> None:
    """Check every key and value of a config.

    Args:
        data: The config's content. A job config is checked as a job config for any command.
        command: The Oumi command that would load it.
        name: The config's name in the error.

    Raises:
        InvalidConfig: With the first ten problems found.
    """
    config_type = ConfigType.JOB if is_job_config(data) else CONFIG_TYPE[command]
    problems = config_problems(data, config_type)
    if problems:
        is_job = config_type is ConfigType.JOB
        raise InvalidConfig(
            f"{name} is not {_with_article('job' if is_job else command.value)} config: "
            f"{join_problems(problems)}",
            ("" if is_job else _other_type(data, config_type)) or "Correct these keys",
        )


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aei' else 'a'} {word}"


def config_problems(data: Mapping[str, Any], config_type: ConfigType) -> list[Problem]:
    """Find all problems of the keys and types of a config."""
    return list(_check(root_spec(config_type), data, "", config_type))


def value_problems(
    spec: FieldSpec, value: object, key: str, config_type: ConfigType
) -> list[Problem]:
    """Find all problems of one value of a config."""
    return list(_check(spec, value, key, config_type))


def unknown_key(key: str, known: Mapping[str, Any], config_type: ConfigType) -> Problem:
    """The problem of a key that is not in `known`, with the nearest valid one."""
    parent, _, leaf = key.rpartition(".")
    prefix = f"{parent}." if parent else ""
    elsewhere = [k for k in dotted_keys(config_type) if k.rpartition(".")[2] == leaf]
    close = [prefix + k for k in get_close_matches(leaf, known, n=1)]
    nearest = (elsewhere or close or [""])[0]
    hint = f"; did you mean {nearest}?" if nearest else ""
    return Problem(key, f"unknown key {shorten(key)}{hint}", ProblemKind.UNKNOWN_KEY, nearest)


def join_problems(problems: list[Problem]) -> str:
    """Join the messages of the first ten problems, and count the others."""
    text = "; ".join(problem.message for problem in problems[:_MAX_SHOWN])
    more = len(problems) - _MAX_SHOWN
    return f"{text}; and {more} more" if more > 0 else text


def shorten(value: object) -> str:
    """Shorten `value` for an error."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 3] + "..."


def other_type(data: Mapping[str, Any], config_type: ConfigType) -> ConfigType | None:
    """The type whose keys a config has all, if it has others than those of `config_type`."""
    if data.keys() <= fields_of(root_spec(config_type)).keys():
        return None
    if is_job_config(data) and config_type is not ConfigType.JOB:
        return ConfigType.JOB
    others = [*CONFIG_TYPE.values(), ConfigType.JUDGE, ConfigType.ASYNC_EVALUATION]
    return next((one for one in others if data.keys() <= fields_of(root_spec(one)).keys()), None)


def _other_type(data: Mapping[str, Any], config_type: ConfigType) -> str:
    """Advise another command if the keys belong to another type of config."""
    other = other_type(data, config_type)
    if other is None:
        return ""
    command = next((name for name, each in CONFIG_TYPE.items() if each is other), None)
    if command is None:
        return f"It looks like {with_article(other)} config, which no job command runs"
    return f"It looks like {with_article(other)} config: use the command {command}"


def with_article(config_type: ConfigType) -> str:
    """The type as words: ``an evaluation``."""
    return f"{'an' if config_type[0] in 'aei' else 'a'} {config_type.replace('_', ' ')}"


def _check(spec: FieldSpec, value: object, key: str, root: ConfigType) -> Iterator[Problem]:
    kind = spec["kind"]
    if kind == "any" or (value is None and spec.get("optional")):
        return
    if kind == "object" and isinstance(value, Mapping):
        yield from _check_object(spec, cast("Mapping[object, object]", value), key, root)
    elif kind == "dict" and isinstance(value, Mapping):
        yield from _check_dict(spec, cast("Mapping[object, object]", value), key, root)
    elif kind == "list" and isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _check(spec.get("of", _ANY), item, f"{key}[{index}]", root)
    elif kind == "union":
        yield from _check_union(spec, value, key, root)
    elif not _is_scalar_of(spec, value):
        yield _wrong_type(spec, value, key)


def _check_object(
    spec: FieldSpec, value: Mapping[object, object], key: str, root: ConfigType
) -> Iterator[Problem]:
    fields = fields_of(spec)
    prefix = f"{key}." if key else ""
    for name, item in value.items():
        if not isinstance(name, str) or name not in fields:
            yield unknown_key(f"{prefix}{name}", fields, root)
        elif item != MISSING:
            yield from _check(fields[name], item, f"{prefix}{name}", root)
    for name, field in fields.items():
        if value.get(name, MISSING) != MISSING:
            continue
        if field.get("required"):
            path = f"{prefix}{name}"
            yield Problem(path, f"missing key {path}", ProblemKind.MISSING_KEY)
        elif field["kind"] == "object" and not field.get("optional"):
            yield from _check_object(field, {}, f"{prefix}{name}", root)


def _check_dict(
    spec: FieldSpec, value: Mapping[object, object], key: str, root: ConfigType
) -> Iterator[Problem]:
    key_spec = spec.get("keys", _ANY)
    for name, item in value.items():
        path = f"{key}.{name}"
        if key_spec["kind"] == "str" and not isinstance(name, str):
            yield Problem(path, f"the key {shorten(path)} must be text: write {name!r} in quotes")
        elif key_spec["kind"] == "enum" and not _is_scalar_of(key_spec, name):
            yield Problem(path, f"the key {shorten(path)} must be {describe(key_spec)}")
        else:
            yield from _check(spec.get("of", _ANY), item, path, root)


def _check_union(spec: FieldSpec, value: object, key: str, root: ConfigType) -> Iterator[Problem]:
    """Check a union: a value must have exactly one of its types, without conversion."""
    exact = {"str": str, "int": int, "float": float, "path": str}
    for member in spec.get("members", []):
        if type(value) is exact.get(member["kind"]):
            return
        if member["kind"] == "object" and isinstance(value, Mapping):
            yield from _check(member, cast("object", value), key, root)
            return
    yield _wrong_type(spec, value, key)


def _is_scalar_of(spec: FieldSpec, value: object) -> bool:
    """Whether OmegaConf, through which Oumi 0.9 reads configs, accepts `value` for the type."""
    is_bool = isinstance(value, bool)
    match spec["kind"]:
        case "str":
            fits = isinstance(value, str | int | float)
        case "path":
            fits = isinstance(value, str)
        case "bool":
            fits = isinstance(value, int) or _parses(value, int) or _is_bool_word(value)
        case "int":
            fits = (isinstance(value, int) and not is_bool) or _parses(value, int)
        case "float":
            fits = (isinstance(value, int | float) and not is_bool) or _parses(value, float)
        case "enum":
            names = enum_members(spec)
            fits = isinstance(value, str) and value.removeprefix(f"{spec.get('name')}.") in names
        case _:
            fits = False
    return fits


def _parses(value: object, number: "type[int] | type[float]") -> bool:
    if not isinstance(value, str):
        return False
    try:
        number(value)
    except ValueError:
        return False
    return True


def _is_bool_word(value: object) -> bool:
    return isinstance(value, str) and value.lower() in _TRUE_FALSE


def _wrong_type(spec: FieldSpec, value: object, key: str) -> Problem:
    nearest = ""
    if spec["kind"] == "enum" and isinstance(value, str):
        nearest = next(iter(get_close_matches(value.upper(), enum_members(spec), n=1)), "")
    hint = f"; did you mean {nearest}?" if nearest else ""
    match value:
        case None:
            got = "null"
        case Mapping():
            got = "a mapping"
        case list():
            got = "a list"
        case _:
            got = f"{shorten(repr(value))} ({type(value).__name__})"
    message = f"{key} must be {describe(spec)}, not {got}{hint}"
    return Problem(key, message, nearest=nearest)
