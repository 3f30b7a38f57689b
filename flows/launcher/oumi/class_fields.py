"""The fields of Oumi's config classes: their types and defaults."""

import dataclasses
import logging
from collections.abc import Callable
from functools import cache, partial
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from flows.core.foreign_errors import note_defects

_logger = logging.getLogger("prefect.oumi.checks")


@cache
def init_hints(cls: type[Any]) -> dict[str, Any]:
    """The types of the fields that a class is built from."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


@cache
def init_defaults(cls: type[Any]) -> dict[str, Any]:
    """The defaults of a class's fields, without those that cannot be built."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            factory: Callable[[], Any] = field.default_factory
            # Some defaults need another setting.
            with note_defects(partial(_logger.debug, "No default of %s: %r", field.name)):
                found[field.name] = factory()
    return found


def without_none(hint: Any) -> Any:
    """The type without None, if only one other type is left."""
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        return members[0] if len(members) == 1 else hint
    return hint


def class_in(hint: Any) -> type[Any] | None:
    """The params class that values of this type are objects of, also in a list or a mapping."""
    plain = without_none(hint)
    if get_origin(plain) in (list, dict):
        plain = without_none(get_args(plain)[-1]) if get_args(plain) else plain
    return plain if isinstance(plain, type) and dataclasses.is_dataclass(plain) else None


def is_params(cls: type[Any]) -> bool:
    """Whether Oumi finalizes objects of this class as params."""
    from oumi.core.configs.params.base_params import BaseParams

    return issubclass(cls, BaseParams)
