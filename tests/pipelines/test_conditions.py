"""Conditions are judged by rules of their own: nothing in them is executed."""

import math

import pytest

from flows.core.errors import InvalidConfig
from flows.core.models import OverrideValue
from flows.core.pipelines.conditions import Condition
from flows.core.pipelines.references import Reference

VALUES: dict[str, OverrideValue] = {
    "${evaluate.metrics.exact_match}": 0.93,
    "${train.state}": "succeeded",
    "${each.metrics.loss}": [2.0, 1.5],
}


def lookup(reference: Reference) -> OverrideValue:
    try:
        return VALUES[str(reference)]
    except KeyError as error:
        raise InvalidConfig(f"{reference} is not known", "Use another") from error


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("${evaluate.metrics.exact_match} > 0.9", True),
        ("${ evaluate.metrics.exact_match } > 0.9 and not ${train.state} == 'failed'", True),
        ("0 < ${evaluate.metrics.exact_match} < 0.5", False),
        ("${train.state} in ['failed', 'crashed']", False),
        ("min(${each.metrics.loss}) == 1.5", True),
        ("sum(${each.metrics.loss}) / len(${each.metrics.loss}) - 0.75 == 1", True),
        ("${train.state} == 'succeeded' or ${no.metrics.such} > 1", True),
        ("-(2 - 3) * 2 == 2", True),
        ("false", False),
        ("not none", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    assert Condition(text).holds(lookup) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "${train.state}.upper() == 'A'",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "2 ** 1000 > 1",
        "exact_match > 1",
        "f'{1}' == '1'",
        "print(1)",
        "min(1, key=2)",
        "${train.state} is 'a'",
        "${train state} == 1",
        "1 >",
        "",
        "1 == 1 # " + "x" * 1000,
        "(" * 500 + "1" + ")" * 500,
    ],
)
def test_what_is_no_condition_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(InvalidConfig):
        Condition(text)


@pytest.mark.parametrize(
    "text", ["${train.state} > 1", "1 / 0 > 1", "'a' * 3 == 'aaa'", "min > 1", "max(1) > 0"]
)
def test_what_cannot_be_judged_says_so(text: str) -> None:
    with pytest.raises(InvalidConfig, match="cannot be evaluated"):
        Condition(text).holds(lookup)


def unknown(reference: Reference) -> OverrideValue:
    """Metrics of which one is good, one is none, and one is a list of both."""
    values: dict[str, OverrideValue] = {"good": 0.5, "nan": math.nan, "inf": math.inf}
    return [0.5, math.nan] if reference.head == "each" else values[reference.head]


@pytest.mark.parametrize("value", ["${nan.metrics.loss}", "${inf.metrics.loss}"])
@pytest.mark.parametrize(
    "text",
    [
        "{} < 1",
        "{} > 1",
        "{} == {}",
        "{} != {}",
        "not {} < 1",
        "not not {} < 1",
        "{}",
        "not {}",
        "0 < {} < 1",
        "{} in [0.5]",
        "{} not in [0.5]",
        "-{} + 1 > 0",
        "min({}, {}) < 1",
        "sum([{}, 1]) > 0 or abs({}) >= 0",
        "{} < 1 and ${good.metrics.loss} < 1",
        "any([{} < 1, false])",
        "all([{} < 1, true])",
    ],
)
def test_no_condition_holds_because_of_a_number_that_is_not_finite(text: str, value: str) -> None:
    assert not Condition(text.replace("{}", value)).holds(unknown)


@pytest.mark.parametrize(
    "text",
    [
        "${nan.metrics.loss} < 1 or ${good.metrics.loss} < 1",
        "any([${nan.metrics.loss} < 1, true])",
        "not (${nan.metrics.loss} < 1 and ${good.metrics.loss} > 1)",
        "min(${each.metrics.loss}) < 0.6",
        "max(${nan.metrics.loss}, ${good.metrics.loss}) == 0.5",
        "len(${each.metrics.loss}) == 2",
    ],
)
def test_what_does_not_depend_on_such_a_number_holds_as_ever(text: str) -> None:
    assert Condition(text).holds(unknown)
