"""Arguments of use cases: each is declared once, for the tools and the terminal.

A use case takes a model, such as `NewJob`. Tools and commands take its fields one by one, as the
field's `Argument` says.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard, TypeVar

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """How the terminal offers an argument.

    Args:
        help: What a person reads; empty: what a model reads.
        names: Names of the option, such as ``("--set", "-s")``; empty: the argument's name.
        metavar: What stands for the value; None: its type.
        positional: Whether it has no name; it is required then,
        optional: unless this says otherwise.
    """

    help: str = ""
    names: tuple[str, ...] = ()
    metavar: str | None = None
    positional: bool = False
    optional: bool = False


class Argument:
    """How the field of a model is offered.

    Args:
        description: What a model reads.
        option: The option of the terminal; None: it has none.
        takes: The type that a tool takes; None: the field's.
        bounds: Bounds of the value, as of pydantic's `Field`: ``ge``, ``max_length``.
    """

    def __init__(
        self,
        description: str,
        option: Option | None = None,
        *,
        takes: Any = None,
        **bounds: float,
    ) -> None:
        field: Callable[..., Any] = Field
        self.field = field(description=description, **bounds)
        self.description = description
        self.option = option
        self.takes = takes
        self.bounds = bounds


class DeclaredField(NamedTuple):
    """A field that is offered.

    Attributes:
        description: Replaces the description for a model.
    """

    name: str
    info: FieldInfo
    argument: Argument
    description: str | None

    @property
    def default(self) -> Any:
        """Its default, as the default of a parameter."""
        if self.info.is_required():
            return inspect.Parameter.empty
        return self.info.get_default(call_default_factory=True)

    @property
    def words(self) -> str:
        """What a person types in a terminal; empty: it has no option."""
        option = self.argument.option
        if option is None:
            return ""
        if option.positional:
            return option.metavar or self.name.upper()
        return (option.names or (f"--{self.name.replace('_', '-')}",))[0]

    def parameter(self, annotation: Any, default: Any) -> inspect.Parameter:
        """Return it as the parameter of a tool or a command."""
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
        )


def list_fields(model: type[BaseModel], *, description: str | None = None) -> list[DeclaredField]:
    """List the fields of a model that are offered, with those of the models it consists of.

    Args:
        model: The model.
        description: Replaces the description of every field for a model.
    """
    found: list[DeclaredField] = []
    for name, info in model.model_fields.items():
        if _is_declared(info.annotation):
            found += list_fields(info.annotation, description=info.description or description)
        for argument in info.metadata:
            if isinstance(argument, Argument):
                found.append(DeclaredField(name, info, argument, description))
    return found


Offer = Callable[[DeclaredField], inspect.Parameter | None]


class Flat:
    """A function that takes the fields of its models one by one.

    Args:
        function: The function; its arguments are given by name.
        offer: Makes the parameter of a field; None: it is not offered.
    """

    def __init__(self, function: Callable[..., Any], offer: Offer) -> None:
        signature = inspect.signature(function, eval_str=True)
        self._function = function
        self._models: dict[str, type[BaseModel]] = {}
        self.fields: dict[str, DeclaredField] = {}
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if not _is_declared(parameter.annotation):
                parameters.append(parameter)
                continue
            self._models[parameter.name] = parameter.annotation
            fields = list_fields(parameter.annotation)
            self.fields |= {field.name: field for field in fields}
            parameters += [one for one in map(offer, fields) if one is not None]
        # Those that are required come first.
        parameters.sort(key=lambda one: one.default is not one.empty)
        self.signature = signature.replace(parameters=parameters)

    def fold(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the function: its models, and what is no field of them."""
        own = {name: value for name, value in arguments.items() if name not in self.fields}
        return own | {name: _build(model, arguments) for name, model in self._models.items()}

    def dress(self, wrapper: F, *, signature: inspect.Signature | None = None) -> F:
        """Give a wrapper the name and the documentation of the function, and its own signature."""
        signature = signature or self.signature
        wrapper.__name__ = self._function.__name__
        wrapper.__doc__ = self._function.__doc__
        wrapper.__annotations__ = {
            one.name: one.annotation for one in signature.parameters.values()
        } | {"return": signature.return_annotation}
        vars(wrapper)["__signature__"] = signature
        return wrapper


def _is_declared(annotation: object) -> TypeGuard[type[BaseModel]]:
    """Whether it is a model with fields to offer."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return False
    return bool(list_fields(annotation))


def _build(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    """Make a model, and the models it consists of; a field without a value has its default."""
    given = {name: values[name] for name in model.model_fields if name in values}
    parts = {
        name: _build(info.annotation, values)
        for name, info in model.model_fields.items()
        if _is_declared(info.annotation)
    }
    return model(**given, **parts)
