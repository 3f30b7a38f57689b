"""Read and replace references between steps: ``${train.output_dir}``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from flows.core.errors import InvalidConfig
from flows.core.models import OverrideValue

ITEM: Final = "item"
INDEX: Final = "index"
METRICS: Final = "metrics"
FIELDS: Final = ("output_dir", "job_id", "state", "model_name", "log_path")
"""The fields of a step that a reference can name, besides its metrics."""

Scalar = str | int | float | bool | None
Lookup = Callable[["Reference"], OverrideValue]

# A second dollar makes the braces plain text.
_PATTERN: Final = re.compile(r"\$(?P<kept>\$\{)|\$\{(?P<inside>[^{}]*)\}")
_INSIDE: Final = re.compile(
    r"\s*(?P<head>[A-Za-z_][\w-]*)(?:\[(?P<index>\d{1,4})\])?(?:\.(?P<path>[^\s\[\]]+))?\s*"
)


@dataclass(frozen=True)
class Reference:
    """One reference.

    Attributes:
        head: The step, ``item`` or ``index``.
        index: The index of a job of the step; None: not given.
        path: The part of the job; empty: all of it.
    """

    head: str
    index: int | None
    path: str

    def __str__(self) -> str:
        """Write the reference as text."""
        index = f"[{self.index}]" if self.index is not None else ""
        return f"${{{self.head}{index}{'.' if self.path else ''}{self.path}}}"

    @property
    def is_to_step(self) -> bool:
        """Whether it is to another step instead of this step's item or index."""
        return self.head not in (ITEM, INDEX)

    @property
    def metric(self) -> str | None:
        """The metric that it names; None if it names none."""
        kind, _, name = self.path.partition(".")
        return name if kind == METRICS and name else None


def references_in(value: object) -> list[Reference]:
    """Find the references in a text, or in the texts of a list or a mapping's values.

    Raises:
        InvalidConfig: A text looks like a reference and is not valid.
    """
    match value:
        case str():
            return [_parse(m) for m in _PATTERN.finditer(value) if m["kept"] is None]
        case list() | tuple():
            items = cast("list[object]", value)
            return [one for item in items for one in references_in(item)]
        case Mapping():
            values = cast("Mapping[object, object]", value).values()
            return [one for item in values for one in references_in(item)]
        case _:
            return []


def substitute(value: OverrideValue, lookup: Lookup, *, final: bool = True) -> OverrideValue:
    """Replace the references in `value`.

    A text that is only a reference becomes the value itself; in a longer text the value is
    written as text.

    Args:
        value: A text or a list of texts; any other value is returned unchanged.
        lookup: Returns the value of a reference.
        final: Whether ``$${`` becomes ``${``; False if more references are replaced later.
    """
    match value:
        case list():
            return [_scalar(substitute(item, lookup, final=final)) for item in value]
        case str():
            whole = _PATTERN.fullmatch(value)
            if whole and whole["kept"] is None:
                return lookup(_parse(whole))
            return _PATTERN.sub(lambda found: _write_out(found, lookup, final=final), value)
        case _:
            return value


def substitute_text(text: str, lookup: Lookup) -> str:
    """Replace the references in `text` with their values as text."""
    return _PATTERN.sub(lambda found: _write_out(found, lookup, final=True), text)


def _parse(found: "re.Match[str]") -> Reference:
    inside = _INSIDE.fullmatch(found["inside"])
    if inside is None:
        raise InvalidConfig(
            f"{found[0]} is not a reference",
            "Write it as ${step.output_dir} or ${step.metrics.NAME}; $${ stands for a plain ${",
        )
    index = int(inside["index"]) if inside["index"] else None
    return Reference(inside["head"], index, inside["path"] or "")


def _write_out(found: "re.Match[str]", lookup: Lookup, *, final: bool) -> str:
    if found["kept"] is not None:
        return found["kept"] if final else found[0]
    value = lookup(_parse(found))
    if isinstance(value, list):
        raise InvalidConfig(
            f"{found[0]} is a list, which cannot be part of a longer text",
            "Choose one item, as in ${step[0].output_dir}",
        )
    return "" if value is None else str(value)


def _scalar(value: OverrideValue) -> Scalar:
    if isinstance(value, list):
        raise InvalidConfig(
            "A reference to a list cannot be an item of a list",
            "Choose one item, as in ${step[0]...}",
        )
    return value
