from typing import Any

import pytest

from flows.core.configs.overrides import apply_overrides, check_overrides
from flows.core.errors import InvalidArgument
from flows.core.models import Command, OverrideValue

DATA: dict[str, Any] = {
    "model": {"model_name": "m"},
    "data": {"train": {"datasets": [{"dataset_name": "a"}, {"dataset_name": "b"}]}},
}


def refusal(key: str, value: OverrideValue, command: Command = Command.TRAIN) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_overrides({key: value}, command)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("training.max_stepz", 1, "training.max_stepz; did you mean training.max_steps?"),
        ("max_steps", 1, "unknown key max_steps; did you mean training.max_steps?"),
        ("trainin.max_steps", 1, "unknown key trainin; did you mean training?"),
        ("training.max_steps.x", 1, "unknown key training.max_steps.x"),
        ("data.train.datasets.x", 1, "unknown key data.train.datasets.x"),
        ("training.max_steps", "x", "training.max_steps must be int, not 'x' (str)"),
        ("training.max_steps", None, "training.max_steps must be int, not null"),
        ("training.max_steps", [1], "training.max_steps must be int, not a list"),
        ("training", "x", "training must be a mapping, not 'x' (str)"),
        ("", 1, "'' is not a dotted key"),
        ("--training.max_steps", 1, "is not a dotted key"),
        ("training max_steps", 1, "is not a dotted key"),
        ("training.max_steps=1", 1, "is not a dotted key"),
        ("training..max_steps", 1, "is not a dotted key"),
        ("training.trainer_kwargs.a\nb", 1, "is not a dotted key"),
        ("x" * 400, 1, "unknown key xxx"),
    ],
)
def test_a_bad_override_is_named(key: str, value: OverrideValue, problem: str) -> None:
    message = refusal(key, value)
    assert message.startswith("INVALID_ARGUMENT: overrides for oumi train: ")
    assert problem in message
    assert len(message) < 300


def test_overrides_are_checked_against_the_command() -> None:
    assert "unknown key training" in refusal("training.max_steps", 1, Command.INFER)
    check_overrides({"generation.max_new_tokens": 5}, Command.INFER)


def test_analyze_takes_only_what_its_command_line_has() -> None:
    check_overrides({"dataset_path": "x", "sample_count": 3}, Command.ANALYZE)
    assert "can override only dataset_name," in refusal("split", "test", Command.ANALYZE)
    assert "cannot be null" in refusal("dataset_path", None, Command.ANALYZE)


def test_overrides_are_written_into_a_copy_of_the_config() -> None:
    overrides: dict[str, OverrideValue] = {
        "training.max_steps": 5,
        "data.train.datasets[1].dataset_name": "c",
        "data.train.datasets.0.split": "test",
        "training.trainer_kwargs.deep.er": [1],
        "model.tokenizer_name": None,
    }
    check_overrides(overrides, Command.TRAIN)
    merged = apply_overrides(DATA, overrides, Command.TRAIN)
    assert merged == {
        "model": {"model_name": "m", "tokenizer_name": None},
        "data": {
            "train": {"datasets": [{"dataset_name": "a", "split": "test"}, {"dataset_name": "c"}]}
        },
        "training": {"max_steps": 5, "trainer_kwargs": {"deep": {"er": [1]}}},
    }
    assert "training" not in DATA


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("data.train.datasets[2].dataset_name", "the list has 2 items, none is [2]"),
        ("data.validation.datasets[0].dataset_name", "does not set data.validation.datasets"),
        ("training.reward_functions[0]", "does not set training.reward_functions"),
        ("model.chat_template_kwargs.x", "does not set model.chat_template_kwargs"),
        ("training.trainer_kwargs", None),
    ],
)
def test_an_override_inside_what_the_config_lacks_is_refused(key: str, problem: str | None) -> None:
    if problem is None:
        assert "must be a mapping" in refusal(key, "x")
        return
    check_overrides({key: "x"}, Command.TRAIN)
    with pytest.raises(InvalidArgument) as caught:
        apply_overrides(DATA, {key: "x"}, Command.TRAIN)
    assert problem in str(caught.value)
