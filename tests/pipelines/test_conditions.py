"""Conditions are judged by rules of their own: nothing in them is executed."""

import pytest

from flows.errors import InvalidConfig
from flows.models import OverrideValue
from flows.pipelines.conditions import Condition
from flows.pipelines.references import Reference

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
    with pytest.raises(InvalidConfig, match="cannot be judged"):
        Condition(text).holds(lookup)
