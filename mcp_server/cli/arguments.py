"""Arguments of commands that a model declares."""

import inspect
import os
import re
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import click
import typer
from pydantic import TypeAdapter, ValidationError

from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import InvalidArgument
from flows.core.models import OverrideValue
from mcp_server.declared_arguments import DeclaredField, Flat

_FOLDER: Final = "client_cwd"
_MORE: Final = re.compile(r"\+\d+")
_VALUE: Final[TypeAdapter[OverrideValue]] = TypeAdapter(OverrideValue)


def as_command(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that takes the fields of the method's models as options of its own.

    Raises:
        InvalidArgument: When called: an option cannot be used.
        InvalidConfig: When called: a value of ``--set`` is not YAML.
    """
    flat = Flat(method, _parameter)
    if not flat.fields:
        return method

    def run(**given: Any) -> Any:
        values = {name: value for name, value in given.items() if name not in flat.fields}
        if _FOLDER in flat.fields:
            values[_FOLDER] = str(current_folder())
        for field in flat.fields.values():
            value = given.get(field.name)
            if value is not None:
                values[field.name] = _read(field, value)
        return method(**_fold(flat, values))

    return flat.dress(run)


def current_folder() -> Path:
    """The folder the command was started in.

    Raises:
        InvalidArgument: It has been removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InvalidArgument(
            "The current folder no longer exists", "Go to another folder"
        ) from error


def check_key(key: str | None) -> str | None:
    """Return an idempotency key that is not too long.

    Raises:
        InvalidArgument: It is.
    """
    return check_length("--idempotency-key", key, 200)


def check_length(option: str, text: str | None, limit: float) -> str | None:
    """Return `text`, which has at most `limit` characters.

    Raises:
        InvalidArgument: It is longer.
    """
    if text is not None and len(text) > limit:
        raise InvalidArgument(f"{option} is {len(text)} characters long", f"Use at most {limit}")
    return text


def _parameter(field: DeclaredField) -> inspect.Parameter | None:
    option = field.argument.option
    if option is None:
        return None
    text = option.help or field.argument.description
    if option.positional:
        metavar = f"[{field.words}]" if option.optional else option.metavar
        argument = typer.Argument(metavar=metavar, help=text, click_type=click.Path())
        default = field.default if option.optional else inspect.Parameter.empty
        return field.parameter(Annotated[str, argument], default)
    annotation: Any = field.info.annotation
    default, choices, bounds = field.default, None, field.argument.bounds
    if get_origin(annotation) in (dict, list):
        annotation = list[str] if isinstance(default, dict) else annotation
        annotation, default = annotation | None, None
    elif _has_several_types(annotation):
        annotation = str | None
    elif isinstance(default, Enum):
        choices = click.Choice([choice.value for choice in type(default)])
        annotation, default = str, default.value
    info = typer.Option(
        *(option.names or (field.words,)),
        metavar=option.metavar,
        help=text,
        min=bounds.get("ge"),
        max=bounds.get("le"),
        click_type=choices,
    )
    return field.parameter(Annotated[annotation, info], default)


def _has_several_types(annotation: Any) -> bool:
    """Whether a value may be of several types, which typer does not know."""
    is_union = get_origin(annotation) in (Union, UnionType)
    return is_union and len(set(get_args(annotation)) - {NoneType}) > 1


def _fold(flat: Flat, values: dict[str, Any]) -> dict[str, Any]:
    try:
        return flat.fold(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = flat.fields[str(first["loc"][0])].words
        raise InvalidArgument(f"{option}: {first['msg']}", "Correct it") from error


def _read(field: DeclaredField, value: Any) -> Any:
    """Return the value of an option as the model takes it."""
    limit = field.argument.bounds.get("max_length")
    if isinstance(value, str) and limit is not None:
        return check_length(field.words, value, limit)
    if get_origin(field.info.annotation) is dict:
        is_text = get_args(field.info.annotation)[1] is str
        return (_parse_texts if is_text else _parse_pairs)(value, field.words)
    return value


def _parse_texts(texts: Iterable[str], option: str) -> dict[str, str]:
    """Parse each ``NAME=VALUE``; a name alone has the value of this process."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not (equals or name in os.environ):
            raise InvalidArgument(
                f"{option} {name!r} has no value", f"Write it as {option} NAME=VALUE"
            )
        pairs[name] = value if equals else os.environ[name]
    return pairs


def _parse_pairs(texts: Iterable[str], option: str) -> dict[str, OverrideValue]:
    """Parse each ``KEY=VALUE``; values are YAML."""
    pairs: dict[str, OverrideValue] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidArgument(
                f"{option} {text!r} is not KEY=VALUE", f"Write it as {option} training.max_steps=60"
            )
        if _MORE.fullmatch(value):  # YAML reads +200 as 200
            pairs[key] = value
            continue
        try:
            pairs[key] = _VALUE.validate_python(parse_yaml(value, f"{option} {key}"))
        except ValidationError as error:
            raise InvalidArgument(
                f"{option} {key} takes a text, a number, true, false, null or a list of them",
                "Set the keys below it one by one",
            ) from error
    return pairs
