"""Arguments of tools."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_server.declared_arguments import DeclaredField, Flat


@dataclass(frozen=True)
class Before:
    """Puts an argument before another one: a model reads them in order."""

    name: str


def one_by_one(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a tool that takes the fields of the method's models as arguments of its own."""
    flat = Flat(method, _parameter)
    if not flat.fields:
        return method

    async def call(**arguments: Any) -> Any:
        return await method(**flat.fold(arguments))

    parameters = list(flat.signature.parameters.values())
    for parameter in flat.signature.parameters.values():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, Before):
                parameters.remove(parameter)
                place = [one.name for one in parameters].index(mark.name)
                parameters.insert(place, parameter)
    return flat.dress(call, signature=flat.signature.replace(parameters=parameters))


def _parameter(field: DeclaredField) -> inspect.Parameter:
    argument = field.argument
    annotation = Annotated[argument.takes or field.info.annotation, argument.field]
    if field.description:
        annotation = Annotated[annotation, Field(description=field.description)]
    return field.parameter(annotation, field.default)
