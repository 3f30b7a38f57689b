"""The results of a pipeline's parts, for the parts after them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from flows.core.divergence import has_diverged
from flows.core.errors import InvalidConfig
from flows.core.models import OverrideValue
from flows.core.pipelines.references import FIELDS, INDEX, ITEM, Lookup, Reference
from flows.core.result_metrics import pick


@dataclass(frozen=True)
class PartResult:
    """The results of a job that references can name."""

    state: str
    job_id: str
    output_dir: str
    model_name: str
    log_path: str
    metrics: Mapping[str, float]


def without_diverged(results: Mapping[str, PartResult]) -> dict[str, PartResult]:
    """The results for conditions: all metrics of a training that diverged become NaN."""
    return {
        name: replace(result, metrics=dict.fromkeys(result.metrics, math.nan))
        if has_diverged(result.metrics)
        else result
        for name, result in results.items()
    }


class Refers(Protocol):
    """Something with references: a `Part`, or a part before its check."""

    @property
    def item(self) -> Any:
        """The item that its step is repeated for."""
        ...

    @property
    def index(self) -> int | None:
        """The index of that item."""
        ...

    @property
    def meant(self) -> Mapping[str, str | list[str]]:
        """The parts that each reference to a step means."""
        ...


def lookup_for(part: Refers, results: Mapping[str, PartResult]) -> Lookup:
    """Make the lookup for the references in `part`.

    Args:
        part: The part with the references.
        results: The results of every part that has a job, by name.
    """

    def lookup(reference: Reference) -> OverrideValue:
        if reference.head == ITEM:
            return item_value(part.item, reference)
        if reference.head == INDEX:
            return part.index
        if reference.index is not None:
            return _value(f"{reference.head}[{reference.index}]", reference, results)
        return _values(part.meant[reference.head], reference, results)

    return lookup


def item_value(item: object, reference: Reference) -> OverrideValue:
    """The value of ``${item}`` or ``${item.key}``.

    Raises:
        InvalidConfig: The item has no such key, or is not a plain value.
    """
    value: object = item
    for key in filter(None, reference.path.split(".")):
        found: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            found = cast("Mapping[str, object]", value)
        if key not in found:
            known = ", ".join(map(str, found)) or "no keys"
            raise InvalidConfig(
                f"{reference}: the item has no {key}; it has {known}", "Correct `each`"
            )
        value = found[key]
    if value is None or isinstance(value, str | int | float | bool | list):
        return cast(OverrideValue, value)
    raise InvalidConfig(
        f"{reference}: the item has several values", "Choose one, as in ${item.key}"
    )


def _values(
    meant: str | list[str], reference: Reference, results: Mapping[str, PartResult]
) -> OverrideValue:
    if isinstance(meant, str):
        return _value(meant, reference, results)
    values = [_value(name, reference, results) for name in meant]
    return [value for value in values if not isinstance(value, list)]


def _value(name: str, reference: Reference, results: Mapping[str, PartResult]) -> OverrideValue:
    result = results.get(name)
    if result is None:
        if reference.path == "state":
            return None  # it never ran
        raise InvalidConfig(f"{reference}: {name} did not run", "Find out why it did not")
    if reference.metric is not None:
        return _metric(name, reference, result)
    value: object = getattr(result, reference.path) if reference.path in FIELDS else ""
    if value == "":
        raise InvalidConfig(
            f"{reference}: {name} has no {reference.path}",
            "Set output_dir in a step that runs a job config",
        )
    return str(value)


def _metric(name: str, reference: Reference, result: PartResult) -> float:
    metrics = result.metrics
    value = pick(metrics, reference.metric or "")
    if value is None:
        known = ", ".join(sorted(metrics)[:20]) or "none"
        raise InvalidConfig(
            f"{reference}: {name} left no metric {reference.metric}; it has {known}",
            'Use one of these, or have the job print a line such as {"exact_match": 0.9}',
        )
    return value
