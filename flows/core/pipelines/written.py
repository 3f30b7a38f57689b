"""Read a pipeline as a person writes it, check its structure and split it into jobs."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, cast

from pydantic import Field, ValidationError

from flows.core.budget.amounts import Limits
from flows.core.errors import InvalidConfig
from flows.core.models import OverrideValue, Value
from flows.core.pipelines.conditions import Condition
from flows.core.pipelines.references import (
    FIELDS,
    INDEX,
    ITEM,
    METRICS,
    Reference,
    references_in,
    substitute,
)
from flows.core.pipelines.results import item_value

MAX_PARTS: Final = 200

_NAME: Final = re.compile(r"[A-Za-z_][\w-]{0,39}")
_LIMITS: Final = {"max_cost": "cost", "max_gpu_hours": "gpu_hours", "max_jobs": "jobs"}
_KEYS: Final = ("name", "steps", *_LIMITS)
_RESERVED: Final = (ITEM, INDEX)


class WrittenStep(Value):
    """A step as a person writes it; all other keys are arguments of its job."""

    name: str
    needs: list[str] = Field(default_factory=list[str])
    when: str | bool = ""
    each: list[Any] | str | None = None
    output_dir: str = ""
    may_fail: bool = False
    job: dict[str, Any] = Field(default_factory=dict[str, Any])

    @property
    def condition(self) -> str:
        """The condition as text."""
        return str(self.when).lower() if isinstance(self.when, bool) else self.when

    @property
    def references(self) -> list[Reference]:
        """All references of the step."""
        return references_in([self.condition, self.output_dir, *_leaves(self.job)])

    @property
    def all_needs(self) -> set[str]:
        """The steps that must end before it starts."""
        named = {one.head for one in self.references if one.is_to_step}
        repeated = {one.head for one in references_in(self.each)} if self.repeats else set[str]()
        return {*self.needs, *named, *repeated}

    @property
    def repeats(self) -> bool:
        """Whether it is repeated over the jobs of another step."""
        return isinstance(self.each, str)


class WrittenPart(Value):
    """One job of a step, with its item filled in; see `Part` in spec."""

    name: str
    step: WrittenStep
    job: dict[str, Any]
    output_dir: str
    after: list[str]
    meant: dict[str, str | list[str]]
    item: Any
    index: int | None


class WrittenPipeline(Value):
    """A pipeline with a valid structure.

    Attributes:
        steps: The steps, each after those it needs.
        limits: What all its jobs together may spend.
    """

    name: str
    steps: list[WrittenStep]
    limits: Limits = Limits()

    def parts(self) -> list[WrittenPart]:
        """List its jobs, each after those it needs.

        Raises:
            InvalidConfig: There are too many.
        """
        repeated: dict[str, tuple[str, list[Any]]] = {}
        parts: list[WrittenPart] = []
        for step in self.steps:
            if step.repeats:
                repeated[step.name] = repeated[references_in(step.each)[0].head]
            elif step.each is not None:
                repeated[step.name] = (step.name, cast("list[Any]", step.each))
            root, items = repeated.get(step.name, ("", None))
            together = {name for name, (other, _) in repeated.items() if root and other == root}
            for index, item in enumerate(items) if items is not None else [(None, None)]:
                parts.append(_part(step, item, index, together, repeated))
            if len(parts) > MAX_PARTS:
                raise InvalidConfig(
                    f"Pipeline {self.name} has more than {MAX_PARTS} jobs", "Split it into several"
                )
        return parts


def read_pipeline(data: object, *, name: str) -> WrittenPipeline:
    """Read a pipeline from `data`, which comes from YAML or was given inline.

    Args:
        data: A mapping with `steps` and optionally `name`, or the list of steps.
        name: The pipeline's name if `data` has none.

    Raises:
        InvalidConfig: It is not a pipeline: an unknown key, an unknown reference, a cycle.
    """
    content = cast("dict[str, Any]", data if isinstance(data, Mapping) else {"steps": data})
    _refuse_unknown(content, _KEYS, "a pipeline")
    steps = content.get("steps")
    if not isinstance(steps, list) or not steps:
        raise InvalidConfig(f"{name} has no steps", "Give a list of steps under `steps`")
    read = [_step(item, number) for number, item in enumerate(cast("list[object]", steps))]
    return WrittenPipeline(
        name=str(content.get("name") or name),
        steps=_sort_steps(read),
        limits=_read_limits(content, name),
    )


def _read_limits(content: Mapping[str, Any], name: str) -> Limits:
    given = {field: content.get(key) for key, field in _LIMITS.items()}
    try:
        return Limits.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = next(key for key, field in _LIMITS.items() if field == first["loc"][0])
        raise InvalidConfig(f"{name}: {key}: {first['msg']}", "Correct it") from error


def _step(item: object, number: int) -> WrittenStep:
    if not isinstance(item, Mapping):
        raise InvalidConfig(f"Step {number + 1} is not a mapping", "Give it name and config_path")
    fields = {str(key): value for key, value in cast("Mapping[object, Any]", item).items()}
    name = fields.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidConfig(
            f"Step {number + 1} has the name {name!r}",
            "Use up to 40 letters, digits, - and _, beginning with a letter; not item or index",
        )
    step = _read_fields(name, fields)
    try:
        for one in Condition(step.condition).references if step.condition else ():
            _check_field(one)
        _check_each(step)
    except InvalidConfig as error:
        raise InvalidConfig(f"Step {name}: {error.what}", error.next_step) from error
    return step


def _read_fields(name: str, fields: Mapping[str, Any]) -> WrittenStep:
    own = WrittenStep.model_fields.keys() - {"job"}
    try:
        return WrittenStep(
            **{key: value for key, value in fields.items() if key in own},
            job={key: value for key, value in fields.items() if key not in own},
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidConfig(
            f"Step {name}: {first['loc'][0]}: {first['msg']}", "Correct it"
        ) from error


def _check_each(step: WrittenStep) -> None:
    repeated = step.each
    if repeated == []:
        raise InvalidConfig("`each` is empty", "Give it at least one item or leave it out")
    if isinstance(repeated, str):
        found = references_in(repeated)
        if len(found) != 1 or str(found[0]) != repeated.replace(" ", "") or found[0].path:
            raise InvalidConfig(
                f"`each` is {repeated!r}", "Give a list, or another step as in ${train}"
            )
    for one in step.references:
        if not one.is_to_step and repeated is None:
            raise InvalidConfig(f"{one} has no meaning without `each`", "Add `each`")
        if one.is_to_step:
            _check_field(one)


def _check_field(one: Reference) -> None:
    if not one.is_to_step or one.metric is not None or one.path in FIELDS:
        return
    known = ", ".join((*FIELDS, f"{METRICS}.NAME"))
    raise InvalidConfig(f"{one} is not a field of a job", f"Use one of {known}")


def _sort_steps(steps: list[WrittenStep]) -> list[WrittenStep]:
    by_name = {step.name: step for step in steps}
    if len(by_name) < len(steps):
        names = [step.name for step in steps]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidConfig(f"Two steps are named {twice}", "Give each a name of its own")
    for step in steps:
        _check_needs(step, by_name)
        _check_indexes(step, by_name)
    sorter = TopologicalSorter({step.name: sorted(step.all_needs) for step in steps})
    try:
        order = list(sorter.static_order())
    except CycleError as error:
        cycle = " -> ".join(reversed(cast("list[str]", error.args[1])))
        raise InvalidConfig(
            f"The steps wait for each other: {cycle}", "Remove one of these needs or references"
        ) from error
    return [by_name[name] for name in order]


def _check_needs(step: WrittenStep, by_name: Mapping[str, WrittenStep]) -> None:
    for name in sorted(step.all_needs):
        if name not in by_name:
            close = get_close_matches(name, by_name, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"It has {', '.join(by_name)}"
            raise InvalidConfig(f"Step {step.name} needs {name}, which is not a step", hint)


def _check_indexes(step: WrittenStep, by_name: Mapping[str, WrittenStep]) -> None:
    for one in step.references:
        if one.index is None or not one.is_to_step:
            continue
        items = by_name[one.head].each
        count = len(items) if isinstance(items, list) else None
        if items is None or (count is not None and one.index >= count):
            raise InvalidConfig(
                f"Step {step.name}: {one}, but {one.head} has {count or 1} job",
                "Count from 0; a step without `each` takes no index",
            )


def _part(
    step: WrittenStep,
    item: object,
    index: int | None,
    together: set[str],
    repeated: Mapping[str, tuple[str, list[Any]]],
) -> WrittenPart:
    """Make the job of `step` for one item.

    Args:
        step: The step.
        item: The item; None if the step is not repeated.
        index: Its index; None if the step is not repeated.
        together: The steps repeated over the same items; this job uses theirs for the same item.
        repeated: The items of each earlier step.
    """

    def parts_of(name: str) -> str | list[str]:
        if name not in repeated:
            return name
        if name in together:
            return f"{name}[{index}]"
        return [f"{name}[{one}]" for one in range(len(repeated[name][1]))]

    def lookup(reference: Reference) -> OverrideValue:
        if reference.head == INDEX:
            return index
        if reference.head == ITEM:
            return item_value(item, reference)
        return str(reference)

    meant = {name: parts_of(name) for name in sorted(step.all_needs)}
    return WrittenPart(
        name=step.name if index is None else f"{step.name}[{index}]",
        step=step,
        job=cast("dict[str, Any]", _fill_in(step.job, lookup)),
        output_dir=str(substitute(step.output_dir, lookup, final=False)),
        after=[one for some in meant.values() for one in _several(some)],
        meant=meant,
        item=item,
        index=index,
    )


def _fill_in(value: object, lookup: Any) -> object:
    """Replace references to the item in `value`."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {key: _fill_in(one, lookup) for key, one in items}
    if isinstance(value, list):
        return [_fill_in(one, lookup) for one in cast("list[object]", value)]
    return substitute(cast(OverrideValue, value), lookup, final=False)


def _several(meant: str | list[str]) -> list[str]:
    return [meant] if isinstance(meant, str) else meant


def _leaves(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return [
            leaf for one in cast("Mapping[str, object]", value).values() for leaf in _leaves(one)
        ]
    if isinstance(value, list):
        return [leaf for one in cast("list[object]", value) for leaf in _leaves(one)]
    return [value]


def _refuse_unknown(content: Mapping[str, object], known: tuple[str, ...], what: str) -> None:
    for key in content:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"It has {', '.join(known)}"
            raise InvalidConfig(f"{what} has no key {key!r}", hint)
