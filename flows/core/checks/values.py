"""Read values of a config whose types are unchecked."""

from collections.abc import Mapping
from typing import Any, cast

from flows.core.configs.checks import MISSING


def text_of(value: object) -> str:
    """The value if it is a text; else empty."""
    return value if isinstance(value, str) and value != MISSING else ""


def mapping_of(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping; else empty."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def items_of(value: object) -> list[Any]:
    """The value if it is a list; else empty."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def number_of(value: object) -> int | None:
    """The value if it is a whole number; else None."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
