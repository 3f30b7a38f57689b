"""What we say of configs, against what the installed Oumi does with them. Imports Oumi once."""

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import oumi
import oumi.tune
import pytest
from click.testing import Result
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from oumi.cli import analyze as oumi_analyze_cli
from oumi.cli.main import get_app
from oumi.core.configs import JobConfig, TrainingConfig
from typer.testing import CliRunner

from flows.core.configs.checks import value_problems
from flows.core.configs.plan import JobPlan, make_plan
from flows.core.configs.processes import BATCH
from flows.core.configs.reader import read_config
from flows.core.configs.schema import ConfigType, FieldSpec, enum_members, load_schema
from flows.core.configs.yaml_text import dump_yaml, escape_references
from flows.core.models import Command, JobRequest, OverrideValue
from flows.launcher.oumi.schema_export import Exporter, export_schema

MODEL = "model: {model_name: some/model}\n"
TRAIN = MODEL + "data: {train: {datasets: [{dataset_name: text_sft_jsonl}]}}\n"
SAMPLES: list[Any] = [
    None, True, 0, 3, -1.5, 2.0, float("inf"), "5", "-5", "1e-4", "5.0", "nan", "text", "", "yes",
    "Off", [], [1], ["a"], [None], {}, {"a": 1}, {"a": "b"}, {"a": None}, {1: 2},
]  # fmt: skip


def plan_for(folder: Path, text: str, command: Command, **fields: Any) -> JobPlan:
    path = folder / "config.yaml"
    path.write_text(text)
    request = JobRequest(config_path=str(path), client_cwd=str(folder), command=command, **fields)
    return make_plan(request, read_config(path))


def test_the_schema_file_is_what_the_installed_oumi_exports() -> None:
    assert load_schema() == export_schema()


def each_type() -> Iterator[tuple[str, FieldSpec, type[Any]]]:
    """One field of every type there is, in a class with that field alone."""
    exporter = Exporter()
    exporter.export_roots(without=ConfigType.ANALYZE)
    seen: set[str] = set()
    for name, fields in exporter.classes.items():
        hints = get_type_hints(exporter.seen[name])
        for key, spec in fields.items():
            kind = json.dumps({k: v for k, v in spec.items() if k not in ("default", "required")})
            if kind not in seen:
                seen.add(kind)
                field = dataclasses.field(default=MISSING)
                yield (
                    f"{name}.{key}",
                    spec,
                    dataclasses.make_dataclass("One", [("x", hints[key], field)]),
                )


def test_a_value_is_refused_exactly_when_oumi_refuses_it() -> None:
    differences: list[str] = []
    for name, spec, one in each_type():
        schema = OmegaConf.structured(one)
        enum = enum_members(spec)[0] if spec["kind"] == "enum" else "X"
        for value in [*SAMPLES, enum, enum.lower(), f"{spec.get('name')}.{enum}"]:
            problems = value_problems(spec, value, "x", ConfigType.TRAINING)
            ours = [p.message for p in problems if not p.message.startswith("missing")]
            try:
                OmegaConf.merge(schema, {"x": value})
                theirs = None
            except OmegaConfBaseException as error:
                theirs = str(error).partition("\n")[0]
            if bool(ours) != bool(theirs):
                differences.append(f"{name} = {value!r}: {ours} / {theirs}")
    assert differences == []


class Capture:
    """Stands in for what a command would do with the config it has read."""

    def __init__(self) -> None:
        self.config: Any = None

    def __call__(self, config: Any, **_: Any) -> list[Any]:
        self.config = config
        return []


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Capture:
    capture = Capture()
    for name in ("train", "evaluate", "infer", "quantize", "synthesize"):
        monkeypatch.setattr(oumi, name, capture)
    monkeypatch.setattr(oumi.tune, "tune", capture)
    return capture


def run_cli(plan: JobPlan) -> Result:
    assert plan.argv[0] == "oumi"
    return CliRunner().invoke(get_app(), plan.argv[1:], catch_exceptions=False)


def value_at(config: Any, key: str) -> object:
    for part in key.replace("[", ".").replace("]", "").split("."):
        if isinstance(config, list):
            config = config[int(part)]
        elif isinstance(config, dict):
            config = config[part]
        else:
            config = getattr(config, part)
    return config


STRINGS = [
    "plain", "runs/a b", "", "5", "1e5", "true", "null", "~", " spaces  kept ", "--verbose", "-c",
    "=", "it's \"so\" = # & | ; $HOME `x`", "a: b", "[1, 2]", "{", "line\nline\ttab\x7f", "日本 😀",
    "${HOME}/x", r"\${HOME} \\${x} \n", "2020-01-01", "0x10", "1_000",
]  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        {f"training.trainer_kwargs.text{i}": text for i, text in enumerate(STRINGS)},
        {
            "training.max_steps": 60,
            "training.learning_rate": 1e-05,
            "training.max_grad_norm": float("inf"),
            "training.save_steps": 7,
            "training.use_peft": True,
            "training.eval_steps": 0.5,
            "training.output_dir": "it's here",
            "model.model_max_length": None,
            "model.trust_remote_code": True,
            "model.model_name": "a: b",
            "data.train.datasets[0].dataset_name": "other",
            "data.train.datasets.0.split": "test",
            "peft.lora_target_modules": ["q", "5", "a, b", "${x}"],
            "training.trainer_kwargs.nested.key": [1, 2.5, None, True],
        },
        {
            "training.max_steps": -1,
            "training.use_peft": False,
            "model.model_max_length": 64,
            "model.trust_remote_code": False,
            "model.tokenizer_name": None,
            "peft.lora_target_modules": [],
        },
    ],
)
def test_oumi_train_reads_an_override_as_the_value_it_is(
    tmp_path: Path, capture: Capture, overrides: dict[str, OverrideValue]
) -> None:
    plan = plan_for(tmp_path, TRAIN, Command.TRAIN, overrides=overrides)
    assert run_cli(plan).exit_code == 0
    # As text, since 1 == True.
    read = {key: repr(value_at(capture.config, key)) for key in overrides}
    assert read == {key: repr(value) for key, value in overrides.items()}


def test_oumi_train_converts_an_override_given_as_text(tmp_path: Path, capture: Capture) -> None:
    overrides: dict[str, OverrideValue] = {
        "training.max_steps": "60",
        "training.learning_rate": "1e-4",
        "training.save_steps": "7",
        "training.use_peft": "yes",
    }
    run_cli(plan_for(tmp_path, TRAIN, Command.TRAIN, overrides=overrides))
    read = [value_at(capture.config, key) for key in overrides]
    assert read == [60, 1e-4, 7, True]


@pytest.mark.parametrize(
    ("command", "text", "key", "value"),
    [
        (Command.EVALUATE, "", "output_dir", " my runs/it's ${x}"),
        (Command.EVALUATE, "", "enable_wandb", True),
        (Command.EVALUATE, "", "run_name", "5"),
        (Command.EVALUATE, "", "generation.max_new_tokens", 7),
        (Command.INFER, "input_path: a.jsonl\n", "input_path", "true"),
        (Command.INFER, "input_path: a\noutput_path: b\n", "output_path", None),
        (Command.INFER, "input_path: a\n", "generation.stop_strings", ["\n", "a b"]),
        (Command.QUANTIZE, "method: bnb_4bit\n", "method", "awq_q4_0"),
        (Command.QUANTIZE, "", "method", "bnb_4bit"),
        (Command.QUANTIZE, "output_path: a\n", "output_path", "b c"),
        (Command.QUANTIZE, "output_path: kept\n", "verbose", True),
        (Command.TUNE, "data: {train: {datasets: [{dataset_name: x}]}}\n", "tuning.n_trials", 3),
        (Command.SYNTH, "output_path: a.jsonl\n", "output_path", "it's.jsonl"),
        (Command.SYNTH, "", "num_samples", 9),
    ],
)
def test_other_commands_read_an_override_as_the_value_it_is(
    tmp_path: Path, capture: Capture, command: Command, text: str, key: str, value: OverrideValue
) -> None:
    model = "" if command is Command.SYNTH else MODEL
    if command is Command.SYNTH:
        text += "inference_config: {model: {model_name: m}}\n"
    plan = plan_for(tmp_path, model + text, command, overrides={key: value})
    assert run_cli(plan).exit_code == 0
    assert value_at(capture.config, key) == value
    if text.startswith("output_path: kept"):
        assert capture.config.output_path == "kept"


def test_oumi_analyze_takes_the_options_we_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def record(config: Any) -> dict[str, Any]:
        read.append(config)
        raise ValueError("seen")

    monkeypatch.setattr(oumi_analyze_cli, "run_typed_analysis", record)
    overrides: dict[str, OverrideValue] = {
        "dataset_path": "a b.jsonl",
        "sample_count": 3,
        "output_path": "out",
    }
    text = "dataset_path: x\nanalyzers: [length, {type: quality, instance_id: Q}]\n"
    plan = plan_for(tmp_path, text, Command.ANALYZE, overrides=overrides)
    run_cli(plan)
    (config,) = read
    assert (config.dataset_path, config.sample_count, config.output_path) == ("a b.jsonl", 3, "out")


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.chat_template_kwargs.x": 1},
        {"data.train.datasets[1].dataset_name": "x"},
        {"training.reward_functions[0]": "x"},
    ],
)
def test_an_override_we_refuse_for_its_place_breaks_oumi(
    tmp_path: Path, overrides: dict[str, OverrideValue]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MODEL + "data: {train: {datasets: [{dataset_name: a}]}}\n")
    arguments = [f"{key}={value}" for key, value in overrides.items()]
    with pytest.raises((AssertionError, Exception)):
        TrainingConfig.from_yaml_and_arg_list(str(path), arguments)


def test_oumi_cannot_read_a_reference_between_double_quotes(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(MODEL + 'training: {output_dir: "${HOME}/x"}\n')
    with pytest.raises(Exception, match="unknown escape"):
        TrainingConfig.from_yaml(path)


SCRIPT = 'echo "${HOME}" $((1 + 1))  \n\tpython -c "print(\'x\')"  # \\${x} 日本\n'


def test_a_job_config_reaches_the_launcher_as_it_was_written(tmp_path: Path) -> None:
    envs = {"RATE": "1e-4", "DAY": "2020-01-01", "FLAG": "true", "DIR": "${HOME}/x", "NONE": "~"}
    text = dump_yaml({"run": SCRIPT, "setup": "echo ${A}", "envs": envs})
    plan = plan_for(tmp_path, text, Command.TRAIN)
    job = JobConfig.from_str(escape_references(plan.job_config))
    job.finalize_and_validate()
    assert (job.run, job.setup, job.working_dir) == (SCRIPT, "echo ${A}", str(tmp_path))
    assert job.envs == {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"} | envs
    assert job.resources.cloud == "local"


def test_the_job_config_of_a_command_reaches_the_launcher_as_it_was_written(
    tmp_path: Path,
) -> None:
    overrides: dict[str, OverrideValue] = {"training.run_name": "it's ${HOME}"}
    plan = plan_for(tmp_path, MODEL, Command.TRAIN, overrides=overrides)
    job = JobConfig.from_str(escape_references(plan.job_config))
    assert shlex.split(job.run) == plan.argv


def test_the_batch_of_a_process_is_that_of_oumi_where_a_config_says_nothing() -> None:
    training = TrainingConfig().training
    assert {key: getattr(training, key.partition(".")[2]) for key in BATCH} == BATCH
