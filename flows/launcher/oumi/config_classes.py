"""Every error that Oumi's own config classes find in a config; nothing is changed.

Oumi 0.9 stops at the first error. Here each object of a config is built and checked by itself. To
find the key that causes an error, keys are left out until the error is gone. The rest is then
checked without that key.
"""

import copy
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, cast, get_origin

from flows.core.checks.values import items_of, mapping_of
from flows.core.configs.checks import MISSING, ProblemKind, config_problems
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_text import dump_yaml, escape_references
from flows.core.file_names import is_folder
from flows.core.findings import OumiProblem
from flows.core.foreign_errors import error_of
from flows.launcher.loading import load_oumi
from flows.launcher.oumi.class_fields import (
    class_in,
    init_defaults,
    init_hints,
    is_params,
    without_none,
)
from flows.launcher.oumi.culprits import Attempt, find_culprit

_MOST: Final = 20
"""The most errors that are looked for in one object."""

_FILES: Final = frozenset({"dataset_path", "environment_config_path"})
_MODELS: Final = frozenset({"model_name", "tokenizer_name", "adapter_model"})
_ONE_AT_A_TIME: Final = threading.Lock()


def oumi_problems(
    data: Mapping[str, Any], config_type: ConfigType, *, folder: Path
) -> list[OumiProblem]:
    """List everything that Oumi's classes refuse in a config, besides keys and types.

    Args:
        data: The config's content.
        config_type: What Oumi would load it as.
        folder: Where relative paths start from.
    """
    load_oumi()
    from flows.launcher.oumi.schema_export import CONFIG_CLASSES

    config_class = CONFIG_CLASSES[config_type]
    content = on_this_machine(copy.deepcopy(dict(data)), folder)
    left_out = drop_refused(content, config_type)
    with _ONE_AT_A_TIME, _offline():
        if config_type is ConfigType.ANALYZE:
            return _analyze_problems(config_class, content)
        problems: list[OumiProblem] = []
        values = _convert(config_class, content, problems)
        _Checker(problems, left_out).check(config_class, values, content, "", is_final=True)
    return problems


class _Checker:
    """Builds the objects of a config from the innermost outwards.

    Args:
        problems: Where errors are added.
        left_out: Keys that are left out because they have an error.
    """

    def __init__(self, problems: list[OumiProblem], left_out: list[str]) -> None:
        self._problems = problems
        self._left_out = left_out

    def check(
        self, cls: type[Any], values: Mapping[str, Any], given: object, key: str, *, is_final: bool
    ) -> object:
        """Build the object of `cls`; None if that is impossible.

        Args:
            cls: A config or params class of Oumi.
            values: Its fields, converted to their types.
            given: What the config has there.
            key: The object's own key.
            is_final: Whether Oumi would finalize it, too.
        """
        fields = dict(values)
        written = mapping_of(given)
        prefix = f"{key}." if key else ""
        broken: set[str] = set()
        for name, hint in init_hints(cls).items():
            if name not in fields:
                continue
            # Oumi finalizes the params of a config, but not those in a list of the config's own.
            final = is_final and (bool(key) or not isinstance(fields[name], list))
            try:
                fields[name] = self._children(
                    hint, fields[name], written.get(name), f"{prefix}{name}", is_final=final
                )
            except _Broken as error:
                default = error.rest or init_defaults(cls).get(name, MISSING)
                if default == MISSING:
                    return None
                broken.add(name)
                fields[name] = default
        return self._build(cls, fields, written, key, is_final=is_final, broken=broken)

    def _lacks(self, key: str) -> bool:
        return any(not key or left.startswith((f"{key}.", f"{key}[")) for left in self._left_out)

    def _children(self, hint: Any, value: Any, given: Any, key: str, *, is_final: bool) -> Any:
        """`value` with the mappings in it that stand for objects built."""
        cls = class_in(hint)
        if cls is None or value is None:
            return value
        if value == MISSING:
            raise _Broken(None)
        final = is_final and is_params(cls)
        if isinstance(value, list):
            written = items_of(cast("object", given))
            items = [
                self.check(
                    cls, mapping_of(item), _item(written, index), f"{key}[{index}]", is_final=final
                )
                if _is_mapping(item)
                else item
                for index, item in enumerate(cast("list[Any]", value))
            ]
            if any(item is None for item in items):
                raise _Broken([item for item in items if item is not None])
            return items
        mapping = cast("Mapping[str, Any]", value)
        if get_origin(without_none(hint)) is dict:
            entries = mapping_of(cast("object", given))
            built = {
                name: self.check(cls, item, entries.get(name), f"{key}.{name}", is_final=final)
                for name, item in mapping.items()
            }
            if any(item is None for item in built.values()):
                raise _Broken({name: item for name, item in built.items() if item is not None})
            return built
        child = self.check(cls, mapping, given, key, is_final=final)
        if child is None:
            raise _Broken(None)
        return child

    def _build(
        self,
        cls: type[Any],
        fields: dict[str, Any],
        written: Mapping[str, Any],
        key: str,
        *,
        is_final: bool,
        broken: set[str],
    ) -> object:
        candidates = [name for name in written if name in fields and name not in broken]
        attempt = Attempt(cls, is_final=is_final)
        for _ in range(_MOST):
            built, error = attempt(fields)
            if error is None:
                return built
            path, without = find_culprit(attempt, fields, written, candidates, error)
            where = ".".join(filter(None, [key, path]))
            # An error that follows from a broken or omitted part is no problem of its own.
            if without is not None or not (broken or self._lacks(where)):
                self._problems.append(_problem(where, error))
            if without is None:
                return built
            self._left_out.append(where)
            fields = without
        return None


def _problem(key: str, error: Exception) -> OumiProblem:
    from oumi.exceptions import HardwareException

    text = " ".join(str(error).split()) or type(error).__name__
    is_file = key.rpartition(".")[2] in _FILES and "not exist" in text
    of_host = isinstance(error, HardwareException | OSError | ImportError) or is_file
    return OumiProblem(key=key, message=text[:400], is_of_host=of_host)


def _convert(
    config_class: type[Any], content: dict[str, Any], problems: list[OumiProblem]
) -> Mapping[str, Any]:
    """Convert the config's values as Oumi does; leave out those that it cannot convert."""
    from omegaconf.errors import OmegaConfBaseException

    for _ in range(_MOST):
        try:
            return _merge(config_class, content)
        except OmegaConfBaseException as error:
            key = str(getattr(error, "full_key", "") or "")
            line = str(error).partition("\n")[0]
            problems.append(OumiProblem(key=key, message=line, is_of_host=False))
            if not key or not drop_key(content, key):
                break
    return {}


def _merge(config_class: type[Any], content: dict[str, Any]) -> Mapping[str, Any]:
    """Merge the config's values into the defaults of its class."""
    from omegaconf import OmegaConf, SCMode

    text = escape_references(dump_yaml(content)) if content else "{}"
    merged = OmegaConf.merge(schema_of(config_class), OmegaConf.create(text))
    values = OmegaConf.to_container(
        merged, resolve=True, throw_on_missing=False, structured_config_mode=SCMode.DICT
    )
    return cast("Mapping[str, Any]", values)


@cache
def schema_of(config_class: type[Any]) -> Any:
    """OmegaConf's schema of a class, which a merge copies: to make it takes half of a check."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(config_class)


def _analyze_problems(config_class: Any, content: dict[str, Any]) -> list[OumiProblem]:
    """List the errors of `oumi analyze` 0.9, which reads its config itself, one error at a time."""
    problems: list[OumiProblem] = []
    for _ in range(_MOST):
        error = error_of(partial(config_class.from_dict, copy.deepcopy(content)))
        if error is None:
            break
        key = next((k for k in _entries(content) if _is_cured(config_class, content, k, error)), "")
        problems.append(_problem(key, error))
        if not key or not drop_key(content, key):
            break
    return problems


def _entries(content: Mapping[str, Any]) -> Iterator[str]:
    for name, value in content.items():
        for index in (
            reversed(range(len(cast("list[Any]", value)))) if isinstance(value, list) else ()
        ):
            yield f"{name}[{index}]"
        yield name


def _is_cured(config_class: Any, content: dict[str, Any], key: str, error: Exception) -> bool:
    without = copy.deepcopy(content)
    drop_key(without, key)
    other = error_of(partial(config_class.from_dict, without))
    return other is None or str(other) != str(error)


def drop_refused(content: dict[str, Any], config_type: ConfigType) -> list[str]:
    """Remove what the schema refuses in a config, and return its dotted keys."""
    problems = config_problems(content, config_type)
    keys = [problem.key for problem in problems if problem.kind is not ProblemKind.MISSING_KEY]
    for key in keys:
        drop_key(content, key)
    return keys


def drop_key(value: object, key: str, at: str = "") -> bool:
    """Remove the entry of a dotted key from `value`; False if there is none."""
    holder = cast("dict[Any, object]", value)
    for name, path in _paths_in(value, at):
        if path == key:
            del holder[name]
            return True
        if key.startswith((f"{path}.", f"{path}[")) and drop_key(holder[name], key, path):
            return True
    return False


def _paths_in(value: object, at: str) -> list[tuple[object, str]]:
    """The keys or indexes of a mapping or list, each with its dotted key."""
    if isinstance(value, dict):
        names = cast("dict[object, object]", value)
        return [(name, f"{at}.{name}" if at else str(name)) for name in names]
    if isinstance(value, list):
        return [(index, f"{at}[{index}]") for index in range(len(cast("list[object]", value)))]
    return []


def on_this_machine(value: Any, folder: Path) -> Any:
    """Make relative paths absolute, because the worker has another working folder."""
    if isinstance(value, list):
        return [on_this_machine(item, folder) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    content: dict[Any, Any] = {}
    for name, item in cast("dict[Any, Any]", value).items():
        if isinstance(item, str) and item != MISSING:
            is_model = name in _MODELS and is_folder(folder / item)
            content[name] = str(folder / item) if item and (name in _FILES or is_model) else item
        else:
            content[name] = on_this_machine(item, folder)
    return content


@contextmanager
def _offline() -> Generator[None]:
    """Keep Oumi's checks off the hub, whose client reads this constant at every request."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _item(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else None


class _Broken(Exception):
    """A part of a config cannot be built.

    Args:
        rest: The entries that can be built, if it is a list or a mapping.
    """

    def __init__(self, rest: Any) -> None:
        super().__init__()
        self.rest = rest
