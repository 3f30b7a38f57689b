"""The state of a pipeline, computed from its jobs: what runs next, what never runs, and why."""

import math
from collections.abc import Container, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from flows.core.errors import InvalidConfig, OumiFlowsError
from flows.core.models import JobRequest, OverrideValue
from flows.core.numbers import to_json
from flows.core.pipelines.conditions import Condition
from flows.core.pipelines.references import Lookup, substitute, substitute_text
from flows.core.pipelines.results import PartResult, lookup_for, without_diverged
from flows.core.pipelines.spec import Part, Pipeline
from flows.core.states import JobState

HELD: Final = "another step was retried alone"
"""Why a part is not started although it could be."""


class PartState(StrEnum):
    """The state of one part of a pipeline."""

    WAITING = "waiting"
    READY = "ready"
    LIVE = "live"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"

    @property
    def is_over(self) -> bool:
        """Whether the state of the part is final."""
        return self not in (PartState.WAITING, PartState.READY, PartState.LIVE)


class PartProgress(NamedTuple):
    """One part and its state.

    Attributes:
        why: Why it does not or did not run; empty if it has a job.
        request: The job to start, if it is ready.
    """

    part: Part
    state: PartState
    why: str = ""
    request: JobRequest | None = None


def advance(
    pipeline: Pipeline,
    results: Mapping[str, PartResult],
    *,
    held: Container[str] = (),
    refused: Mapping[str, str] = MappingProxyType({}),
) -> list[PartProgress]:
    """Compute the state of each part of a pipeline, in order.

    The same jobs always give the same answer.

    Args:
        pipeline: The pipeline.
        results: The results of its jobs, by the name of their part.
        held: The parts that must not start although they could.
        refused: The parts whose job could not be started, and why.
    """
    known: dict[str, PartProgress] = {}
    for part in pipeline.parts:
        result = results.get(part.name)
        if result is None:
            one = _without_job(part, known, results)
            if one.state is PartState.READY and part.name in held:
                one = PartProgress(part, PartState.NOT_RUN, HELD)
            elif one.state is PartState.READY and part.name in refused:
                one = PartProgress(part, PartState.FAILED, refused[part.name])
            known[part.name] = one
        else:
            known[part.name] = PartProgress(part, _state_of(JobState(result.state)))
    return list(known.values())


def resolve_request(part: Part, lookup: Lookup) -> JobRequest:
    """The job of a part, with its references replaced.

    Raises:
        InvalidConfig: A reference has no value.
    """
    request = part.request
    overrides: dict[str, OverrideValue] = {
        key: _finite(key, substitute(value, lookup)) for key, value in request.overrides.items()
    }
    envs = {key: substitute_text(value, lookup) for key, value in request.envs.items()}
    return request.model_copy(update={"overrides": overrides, "envs": envs})


def _finite(key: str, value: OverrideValue) -> OverrideValue:
    """The value of an override.

    Raises:
        InvalidConfig: It is a number that is not finite, which is valid in no config.
    """
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, float) and not math.isfinite(one):
            raise InvalidConfig(
                f"{key} would be {to_json(one)}", "Check why that metric is not finite"
            )
    return value


def _without_job(
    part: Part, known: Mapping[str, PartProgress], results: Mapping[str, PartResult]
) -> PartProgress:
    condition = Condition(part.when) if part.when else None
    # A step whose condition asks for the state of another step runs however that one ended.
    asked = {one.head for one in condition.references if one.path == "state"} if condition else ()
    before = [known[name] for name in part.after]
    if any(not one.state.is_over for one in before):
        return PartProgress(part, PartState.WAITING)
    needed = [one for one in before if one.part.step not in asked]
    for state, why in ((PartState.FAILED, "failed"), (PartState.NOT_RUN, "did not run")):
        if missing := [one.part.name for one in needed if one.state is state]:
            return PartProgress(part, PartState.NOT_RUN, f"{', '.join(missing[:3])} {why}")
    if skipped := [one.part.name for one in needed if one.state is PartState.SKIPPED]:
        return PartProgress(part, PartState.SKIPPED, f"{', '.join(skipped[:3])} was skipped")
    try:
        if condition and not condition.holds(lookup_for(part, without_diverged(results))):
            return PartProgress(part, PartState.SKIPPED, f"not {part.when}")
        return PartProgress(
            part, PartState.READY, request=resolve_request(part, lookup_for(part, results))
        )
    except OumiFlowsError as error:
        return PartProgress(part, PartState.FAILED, error.sentences)


def _state_of(state: JobState) -> PartState:
    if not state.is_terminal:
        return PartState.LIVE
    return PartState.SUCCEEDED if state is JobState.SUCCEEDED else PartState.FAILED
