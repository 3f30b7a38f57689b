"""Where a pipeline is when one of its steps was retried alone, and when a run was retried."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.schemas.objects import State, StateType

from flows.core.models import JobRequest, OverrideValue
from flows.core.pipelines.results import PartResult
from flows.core.pipelines.spec import Part, Pipeline
from flows.core.states import JobState
from flows.families.pipeline_progress import HELD, PartState, advance
from flows.job.prefect_calls import retried_at

START = datetime(2026, 11, 24, tzinfo=UTC)


def part(name: str, *after: str) -> Part:
    request = JobRequest(config_path=f"/{name}.yaml", client_cwd="/")
    return Part(name=name, step=name, request=request, after=list(after))


def test_a_part_that_is_held_is_not_run_and_neither_is_what_follows_it() -> None:
    parts = [part("one"), part("two"), part("after", "one"), part("last", "two")]
    pipeline = Pipeline(name="p", client_cwd="/", parts=parts)
    one = PartResult(JobState.SUCCEEDED, "id", "", "", "", {})
    places = advance(pipeline, {"one": one}, held={"two", "last"})
    assert [(place.state, place.why) for place in places] == [
        (PartState.SUCCEEDED, ""),
        (PartState.NOT_RUN, HELD),
        (PartState.READY, ""),
        (PartState.NOT_RUN, "two did not run"),
    ]


def test_what_needs_a_part_that_could_not_be_started_is_not_run() -> None:
    parts = [part("one"), part("after", "one"), part("last", "after"), part("other")]
    pipeline = Pipeline(name="p", client_cwd="/", parts=parts)
    places = advance(pipeline, {}, refused={"one": "The config is gone."})
    assert [(place.state, place.why) for place in places] == [
        (PartState.FAILED, "The config is gone."),
        (PartState.NOT_RUN, "one failed"),
        (PartState.NOT_RUN, "after did not run"),
        (PartState.READY, ""),
    ]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("SCHEDULED PENDING RUNNING FAILED", None),
        ("SCHEDULED RUNNING SCHEDULED RUNNING", None),  # another attempt, without a request
        ("SCHEDULED RUNNING FAILED SCHEDULED SCHEDULED RUNNING", 3),
        ("SCHEDULED CANCELLED SCHEDULED RUNNING FAILED SCHEDULED", 5),
    ],
)
def test_a_run_was_retried_when_it_had_ended_and_was_scheduled_again(
    history: str, expected: int | None
) -> None:
    states = [
        State[None](type=StateType(kind), timestamp=START + timedelta(seconds=second))
        for second, kind in enumerate(history.split())
    ]
    due = None if expected is None else START + timedelta(seconds=expected)
    assert retried_at(reversed(states)) == due


def follower(*, when: str = "", **overrides: OverrideValue) -> Part:
    request = JobRequest(config_path="/next.yaml", client_cwd="/", overrides=dict(overrides))
    meant: dict[str, str | list[str]] = {"train": "train"}
    return Part(name="next", step="next", request=request, after=["train"], when=when, meant=meant)


def after_training(next_part: Part, **metrics: float) -> tuple[PartState, str]:
    pipeline = Pipeline(name="p", client_cwd="/", parts=[part("train"), next_part])
    result = PartResult(JobState.SUCCEEDED, "id", "", "", "", metrics)
    place = advance(pipeline, {"train": result})[1]
    return place.state, place.why


def test_no_metric_of_a_training_that_diverged_makes_a_condition_hold() -> None:
    promote = follower(when="${train.metrics.eval_loss} < 1")
    assert after_training(promote, loss=0.4, eval_loss=0.5)[0] is PartState.READY
    assert after_training(promote, loss=math.nan, eval_loss=0.5)[0] is PartState.SKIPPED
    assert after_training(promote, loss=0.4, eval_loss=math.nan)[0] is PartState.SKIPPED


def test_a_number_that_is_not_finite_is_no_override() -> None:
    uses = follower(**{"training.learning_rate": "${train.metrics.rate}"})
    assert after_training(uses, rate=0.5)[0] is PartState.READY
    state, why = after_training(uses, rate=math.inf)
    assert (state, why) == (
        PartState.FAILED,
        "training.learning_rate would be inf. Check why that metric is not finite.",
    )
