"""The search for the key of a config that causes an error of Oumi's classes."""

import copy
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from flows.core.checks.values import mapping_of
from flows.core.configs.checks import MISSING
from flows.core.foreign_errors import error_of
from flows.launcher.oumi.class_fields import init_defaults


class Builds(Protocol):
    """Builds an object of a class from its fields; returns it, if it could, and the error."""

    @property
    def cls(self) -> type[Any]:
        """The class of the fields."""
        ...

    def __call__(self, fields: Mapping[str, Any]) -> tuple[object, Exception | None]:
        """Build the object."""
        ...


class Attempt:
    """Builds an object of a class from copies of its fields, and lets it check itself."""

    def __init__(self, cls: type[Any], *, is_final: bool) -> None:
        self.cls = cls
        self._is_final = is_final

    def __call__(self, fields: Mapping[str, Any]) -> tuple[object, Exception | None]:
        """Build and check the object; return it, None if it could not be built, and the error."""
        built: Any = None

        def build() -> None:
            nonlocal built
            built = self.cls(**copy.deepcopy(dict(fields)))
            if self._is_final and hasattr(built, "__finalize_and_validate__"):
                # Its children have been finalized by now, each by itself.
                copy.deepcopy(built).__finalize_and_validate__()

        error = error_of(build)
        return built, error


def find_culprit(
    attempt: Builds,
    fields: Mapping[str, Any],
    written: Mapping[str, Any],
    candidates: list[str],
    error: Exception,
) -> tuple[str, dict[str, Any] | None]:
    """The key without which the error is gone, and the fields without it.

    A key without which there is no error comes before one without which there is another error:
    leaving that key out may cause the other error.
    """
    ordered = sorted(candidates, key=lambda name: (name not in str(error), written[name] is None))
    keys = [key for name in ordered for key in _keys(attempt.cls, fields, written, name)]
    changed: tuple[str, dict[str, Any]] | None = None
    for key in keys:
        without = _without(attempt.cls, fields, key)
        if without is None:
            continue
        other = attempt(without)[1]
        if other is None:
            return key, without
        if changed is None and str(other) != str(error):
            changed = key, without
    if changed is not None:
        return changed
    words = set(re.findall(r"\w+", str(error)))
    return next((name for name in candidates if name in words), ""), None


def _keys(
    cls: type[Any], fields: Mapping[str, Any], written: Mapping[str, Any], name: str
) -> Iterator[str]:
    """The key of a field that holds a value; of an object, the keys of the values in it."""
    inner = mapping_of(written[name])
    if not dataclasses.is_dataclass(fields[name]) or not inner:
        yield name
        return
    for leaf in inner:
        child: object = getattr(fields[name], leaf, None)
        if not dataclasses.is_dataclass(child):
            yield f"{name}.{leaf}"
            continue
        for last in mapping_of(inner[leaf]):
            yield f"{name}.{leaf}.{last}"
    if init_defaults(cls).get(name, MISSING) is None:
        yield name


def _without(cls: type[Any], fields: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """The fields with the default in place of one key; None if it has no default."""
    name, *path = key.split(".")
    if not path:
        default = init_defaults(cls).get(name, MISSING)
        return None if default == MISSING else {**fields, name: copy.deepcopy(default)}
    changed = copy.deepcopy(fields[name])
    *parents, leaf = path
    holder = changed
    for parent in parents:
        holder = getattr(holder, parent)
    default = init_defaults(cast("type[Any]", type(holder))).get(leaf, MISSING)
    if default == MISSING:
        return None
    setattr(holder, leaf, copy.deepcopy(default))
    # What Oumi derives from it, such as a dtype from its name; if that fails, it is not this key
    # alone.
    if error_of(getattr(holder, "__post_init__", lambda: None)) is not None:
        return None
    return {**fields, name: changed}
