"""Values of a config whose types nobody has checked."""

from collections.abc import Mapping
from typing import Any, cast

from flows.core.configs.checks import MISSING


def text_of(value: object) -> str:
    """The text, empty if it is none or not set."""
    return value if isinstance(value, str) and value != MISSING else ""


def mapping_of(value: object) -> Mapping[str, Any]:
    """The mapping, empty if it is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def items_of(value: object) -> list[Any]:
    """The list, empty if it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def number_of(value: object) -> int | None:
    """The whole number; None if it is none."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
