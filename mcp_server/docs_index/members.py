"""Reads the fields of classes and their registered names from griffe."""

from collections.abc import Sequence
from typing import Final

import griffe

from mcp_server.docs_index.entries import DocField

_REQUIRED: Final = ("MISSING", "omegaconf.MISSING")
_FIELD: Final = ("field", "dataclasses.field", "Field", "pydantic.Field")


def fields_of(cls: griffe.Class) -> list[DocField]:
    """List the public fields of a class, its base classes' first, or the members of an enum."""
    described = _field_descriptions(cls)
    fields: dict[str, DocField] = {}
    for scope in [*reversed(_bases(cls)), cls]:
        for name, member in scope.members.items():
            if not isinstance(member, griffe.Attribute) or name.startswith("_"):
                continue
            if "property" in member.labels:
                continue
            is_enum = any(str(base).endswith("Enum") for base in cls.bases)
            if is_enum or member.annotation is not None:
                fields[name] = _field(member, described.get(name, ""))
    return list(fields.values())


def registered_names(decorators: Sequence[griffe.Decorator]) -> list[str]:
    """Read the names in decorators such as ``@register_dataset("name")``."""
    names: list[str] = []
    for decorator in decorators:
        call = decorator.value
        if not isinstance(call, griffe.ExprCall) or not call.arguments:
            continue
        function, first = str(call.function).rpartition(".")[2], str(call.arguments[0])
        if function.startswith("register") and first[:1] in "'\"":
            names.append(first.strip("'\""))
    return list(dict.fromkeys(names))


def _bases(cls: griffe.Class) -> list[griffe.Class]:
    try:
        return cls.mro()
    except ValueError:  # a base class that griffe cannot order
        return []


def _field_descriptions(cls: griffe.Class) -> dict[str, str]:
    """Read the descriptions of fields in the class's docstring."""
    if cls.docstring is None:
        return {}
    kinds = (griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters)
    return {
        item.name: item.description
        for section in cls.docstring.parse()
        if section.kind in kinds
        for item in section.value
    }


def _field(member: griffe.Attribute, described: str) -> DocField:
    description = member.docstring.value if member.docstring else described
    return DocField(
        name=member.name,
        type=str(member.annotation or ""),
        default=_default(member.value),
        description=description.strip(),
    )


def _default(value: object) -> str | None:
    if isinstance(value, griffe.ExprCall) and str(value.function) in _FIELD:
        given = {
            argument.name: argument.value
            for argument in value.arguments
            if isinstance(argument, griffe.ExprKeyword)
        }
        if "default_factory" in given:
            return _made_by(str(given["default_factory"]))
        positional = [a for a in value.arguments if not isinstance(a, griffe.ExprKeyword)]
        value = given.get("default", positional[0] if positional else None)
    text = None if value is None else str(value)
    return None if text in (*_REQUIRED, "...") else text


def _made_by(factory: str) -> str:
    if factory.startswith("lambda"):
        return factory.partition(":")[2].strip()
    return {"list": "[]", "dict": "{}"}.get(factory, f"{factory}()")
