from typing import Any

import pytest
import yaml

from flows.core.configs.checks import check_config, config_problems, parse_command
from flows.core.configs.schema import ConfigType
from flows.core.errors import InvalidArgument, InvalidConfig
from flows.core.models import Command

MODEL: dict[str, Any] = {"model": {"model_name": "m"}}


def refusal(data: dict[str, Any], command: Command = Command.TRAIN) -> str:
    with pytest.raises(InvalidConfig) as caught:
        check_config(data, command, name="train.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("command", list(Command))
def test_a_command_is_known_by_its_name(command: Command) -> None:
    assert parse_command(command.value) is command


def test_eval_is_short_for_evaluate() -> None:
    assert parse_command("eval") is Command.EVALUATE


def test_a_command_may_be_in_any_case() -> None:
    assert parse_command("Train") is Command.TRAIN


@pytest.mark.parametrize("text", ["trian", "", "chat", "train; rm -rf /", "x" * 500])
def test_an_unknown_command_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(InvalidArgument, match="train, analyze, synth, evaluate, infer") as caught:
        parse_command(text)
    assert ("did you mean train?" in str(caught.value)) is (text == "trian")
    assert len(str(caught.value)) < 250


def test_a_good_config_of_each_command_passes() -> None:
    check_config(
        MODEL | {"training": {"max_steps": 5, "trainer_kwargs": {"x": [1]}}}, Command.TRAIN
    )
    check_config(MODEL | {"tasks": [{"task_name": "a"}]}, Command.EVALUATE)
    check_config(MODEL | {"input_path": "a.jsonl"}, Command.INFER)
    check_config(MODEL | {"tuning": {"n_trials": 2}}, Command.TUNE)
    check_config(MODEL | {"method": "bnb_4bit"}, Command.QUANTIZE)
    check_config({"inference_config": MODEL, "num_samples": 2}, Command.SYNTH)
    check_config({"dataset_path": "a", "analyzers": ["length", {"type": "x"}]}, Command.ANALYZE)
    check_config({"resources": {"cloud": "local"}, "run": "echo"}, Command.TRAIN)


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"max_stepz": 1}, "unknown key training.max_stepz; did you mean training.max_steps?"),
        ({"model_name": "m"}, "unknown key training.model_name; did you mean model.model_name?"),
        ({"zzzz": 1}, "unknown key training.zzzz."),
        ({1: 2}, "unknown key training.1."),
        ({"max_steps": "ten"}, "training.max_steps must be int, not 'ten' (str)"),
        ({"max_steps": 2.0}, "training.max_steps must be int, not 2.0 (float)"),
        ({"max_steps": None}, "training.max_steps must be int, not null"),
        ({"max_steps": [1]}, "training.max_steps must be int, not a list"),
        ({"output_dir": {"a": 1}}, "training.output_dir must be str, not a mapping"),
        ({"learning_rate": "fast"}, "training.learning_rate must be float, not 'fast' (str)"),
        ({"use_peft": "maybe"}, "training.use_peft must be bool, not 'maybe' (str)"),
        ({"eval_steps": "5"}, "training.eval_steps must be int or float, not '5' (str)"),
        ({"trainer_type": "trl_sft"}, "did you mean TRL_SFT?"),
        ({"trainer_kwargs": {1: 2}}, "training.trainer_kwargs.1 must be text"),
        ({"reward_functions": ["a", [1]]}, "training.reward_functions[1] must be str, not a list"),
        ("fast", "training must be a mapping, not 'fast' (str)"),
        (None, "training must be a mapping, not null"),
    ],
)
def test_a_bad_key_or_value_is_named_by_its_whole_path(training: Any, problem: str) -> None:
    message = refusal(MODEL | {"training": training})
    assert message.startswith("INVALID_CONFIG: train.yaml is not a train config: ")
    assert problem in message


@pytest.mark.parametrize(
    "training",
    [
        {"max_steps": "60", "learning_rate": "1e-4", "use_peft": "yes"},
        {"max_steps": -1, "learning_rate": 1, "output_dir": 5, "use_peft": 0},
        {"run_name": None, "eval_steps": 0.5, "dataloader_num_workers": "auto"},
        {"trainer_type": "TRL_SFT", "output_dir": "???"},
        {"trainer_type": "TrainerType.TRL_SFT"},
    ],
)
def test_what_oumi_would_convert_is_taken(training: dict[str, Any]) -> None:
    check_config(MODEL | {"training": training}, Command.TRAIN)


def test_a_key_of_a_listed_item_is_named_with_its_index() -> None:
    data = MODEL | {"data": {"train": {"datasets": [{"dataset_name": "a"}, {"dataset": "b"}]}}}
    message = refusal(data)
    assert "unknown key data.train.datasets[1].dataset; did you mean" in message
    assert "missing key data.train.datasets[1].dataset_name" in message


@pytest.mark.parametrize("data", [{"training": {}}, {"model": {"model_name": "???"}}])
def test_a_missing_key_is_named(data: dict[str, Any]) -> None:
    assert "missing key model.model_name" in refusal(data)


def test_no_more_than_ten_problems_are_shown() -> None:
    message = refusal(MODEL | {"training": {f"{i}bogus": 1 for i in range(14)}})
    assert message.count("unknown key") == 10
    assert "; and 4 more." in message


@pytest.mark.parametrize(
    ("text", "command", "advice"),
    [
        ("{tasks: [], inference_engine: NATIVE}", Command.TRAIN, "use the command evaluate"),
        ("{input_path: a, engine: NATIVE}", Command.TRAIN, "use the command infer"),
        ("{training: {}}", Command.INFER, "It looks like a training config: use the command train"),
        ("{tuning: {}}", Command.TRAIN, "use the command tune"),
        ("{strategy: GENERAL}", Command.TRAIN, "use the command synth"),
        ("{method: bnb_4bit, output_path: x}", Command.EVALUATE, "use the command quantize"),
        ("{analyzers: []}", Command.TRAIN, "like an analyze config: use the command analyze"),
        ("{judge_params: {}}", Command.TRAIN, "a judge config: use the command judge"),
        ("{evaluation: {}}", Command.TRAIN, "an async evaluation config, which no job command"),
    ],
)  # fmt: skip
def test_a_config_of_another_command_is_told_which(
    text: str, command: Command, advice: str
) -> None:
    assert advice in refusal(yaml.safe_load(text), command)


def test_a_job_config_is_checked_as_one_whatever_the_command() -> None:
    message = refusal({"resources": {"cloude": "gcp"}, "run": "x"}, Command.INFER)
    assert "train.yaml is not a job config: " in message
    assert "unknown key resources.cloude; did you mean resources.cloud?" in message
    assert "missing key resources.cloud" in message


@pytest.mark.parametrize("config_type", list(ConfigType))
def test_every_type_of_config_can_be_checked(config_type: ConfigType) -> None:
    problems = config_problems({"no such key": 1}, config_type)
    assert "unknown key no such key" in [problem.message for problem in problems]
