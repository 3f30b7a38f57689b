"""Entries of the index of Oumi's API."""

from typing import Final

from pydantic import Field

from flows.core.models import Value

CLASS_KINDS: Final = ("class", "dataclass", "enum")
"""The kinds that `class` covers in a search."""


class DocField(Value):
    """A field of a class, or a member of an enum."""

    name: str
    type: str = Field(default="", description="As written in the source; empty for enum members.")
    default: str | None = Field(default=None, description="Null: required.")
    description: str = ""


class DocSection(Value):
    """A section of a docstring."""

    name: str = Field(description="Such as Args, Returns, Raises, Example; empty: plain text.")
    content: str


class DocEntry(Value):
    """A class, function or method."""

    qualified_name: str = Field(description="The shortest import path.")
    name: str
    kind: str = Field(description="class, dataclass, enum, function or method.")
    module: str
    source: str = Field(default="", description="File and line, in the folder of the package.")
    parent_class: str = Field(default="", description="Of a method.")
    bases: list[str] = Field(default_factory=list[str])
    signature: str = ""
    registered_as: list[str] = Field(default_factory=list[str], description="Its names in configs.")
    summary: str = ""
    fields: list[DocField] = Field(default_factory=list[DocField])
    sections: list[DocSection] = Field(default_factory=list[DocSection])


class ModuleEntry(Value):
    """A module that has something public."""

    module: str
    is_package: bool
    description: str = ""
    class_count: int
    function_count: int


class Api(Value):
    """Everything public in one version of Oumi."""

    entries: list[DocEntry]
    modules: list[ModuleEntry]
    other_paths: dict[str, str] = Field(
        description="Further paths of entries, such as where they are defined, to qualified names."
    )
