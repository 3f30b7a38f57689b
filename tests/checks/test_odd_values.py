"""Values that Oumi's classes take, and with which a job fails all the same."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from oumi.core.configs.params.evaluation_params import EvaluationTaskParams
from oumi.exceptions import OumiConfigError

from flows.core.checks.config_errors import note_content
from flows.core.checks.launch import read_launch
from flows.core.checks.notes import Notes
from flows.core.checks.problems import _BACKENDS
from flows.core.configs.reader import read_config
from flows.core.configs.schema import ConfigType
from flows.core.configs.yaml_lines import Places
from flows.core.findings import Finding, Severity
from flows.launcher.loading import SPOT_ENV, load_oumi
from flows.launcher.oumi.registry import OumiRegistry
from flows.machine_checks.hub import Hub
from flows.machine_checks.repositories import RepositoryChecks
from tests.checks.hub_server import hub_server

TRAIN: dict[str, Any] = {
    "model": {"model_name": "org/valid"},
    "data": {"train": {"datasets": [{"dataset_name": "yahma/alpaca-cleaned"}]}},
}


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def validated(path: Path, config_type: ConfigType) -> list[Finding]:
    config = read_config(path)
    notes = Notes(str(path), Places(config.text))
    note_content(notes, config, config_type)
    return notes.findings


@pytest.mark.parametrize(
    ("value", "is_wrong"),
    [(True, True), (False, True), (1000, True), (1.5, True), ("out/checkpoint-10", False),
     (None, False)],
)  # fmt: skip
def test_a_checkpoint_is_a_path(tmp_path: Path, value: object, is_wrong: bool) -> None:
    data = TRAIN | {"training": {"resume_from_checkpoint": value}}
    path = written(tmp_path, yaml.safe_dump(data))
    for findings in (
        validated(path, ConfigType.TRAINING),
        read_launch(read_config(path), client_cwd=str(tmp_path)).findings,
    ):
        wrong = [one.key for one in findings if one.severity is Severity.ERROR]
        assert wrong == ["training.resume_from_checkpoint"] * is_wrong


@pytest.mark.parametrize(
    "backend", ["lm-harness", "lmharness", "LM_HARNESS", "alpaca_eval", "vllm", *_BACKENDS]
)
def test_a_backend_is_wrong_exactly_if_oumi_does_not_have_it(tmp_path: Path, backend: str) -> None:
    try:
        EvaluationTaskParams(evaluation_backend=backend, task_name="a").get_evaluation_backend()
        is_wrong = False
    except (ValueError, OumiConfigError):
        is_wrong = True
    data = {"model": {"model_name": "m"}, "tasks": [{"evaluation_backend": backend}]}
    findings = validated(written(tmp_path, yaml.safe_dump(data)), ConfigType.EVALUATION)
    assert [one.key for one in findings] == ["tasks[0].evaluation_backend"] * is_wrong


def test_pre_flight_refuses_text_that_oumi_cannot_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "model: {model_name: m}\ndata: {train: {datasets: [{dataset_name: a/b}]}}\n"
        'training: {output_dir: "${oc.env:HOME}/runs"}\n',
    )
    job = tmp_path / "job.yaml"
    job.write_text(f"resources: {{cloud: local}}\nrun: oumi train -c {path}\n")
    for each in (path, job):
        findings = read_launch(read_config(each), client_cwd=str(tmp_path)).findings
        assert "invalid_yaml" in [one.code.value for one in findings]


@pytest.mark.parametrize(
    ("asked", "text", "right"),
    [
        (ConfigType.TRAINING, "{model: {model_name: m}, tasks: [{evaluation_backend: custom}], "
         "output_dir: a}", "evaluation"),
        (ConfigType.INFERENCE, yaml.safe_dump(TRAIN | {"training": {"max_steps": 2}}), "training"),
        (ConfigType.EVALUATION, "{resources: {cloud: gcp}, run: ls}", "job"),
        (ConfigType.TRAINING, "{judge_params: {prompt_template: a}}", "judge"),
        (ConfigType.JOB, yaml.safe_dump(TRAIN), "training"),
    ],
)  # fmt: skip
def test_a_config_of_another_type_is_told_its_type(
    tmp_path: Path, asked: ConfigType, text: str, right: str
) -> None:
    findings = validated(written(tmp_path, text), asked)
    assert [one.fix for one in findings] == [f'Validate it with task_type="{right}"']


@pytest.mark.parametrize(
    ("model", "data", "wrong"),
    [
        ("data / model", "yahma/alpaca-cleaned", ["model.model_name"]),
        ("org/valid", "./data/none.jsonl", ["data.train.datasets[0].dataset_name"]),
        ("org/valid", "data/sub/none.jsonl", ["data.train.datasets[0].dataset_name"]),
        ("org/valid", "my data", ["data.train.datasets[0].dataset_name"]),
        ("org/valid", "./here", []),
        ("https://huggingface.co/org/valid", "yahma/alpaca-cleaned", []),
        ("org/val id", "yahma/alpaca-cleaned", ["model.model_name"]),
        ("$MODEL", "yahma/alpaca-cleaned", []),
    ],
)
async def test_a_name_that_is_neither_a_file_nor_a_repository_is_said(
    tmp_path: Path, model: str, data: str, wrong: list[str]
) -> None:
    (tmp_path / "here").mkdir()
    content = {
        "model": {"model_name": model},
        "data": {"train": {"datasets": [{"dataset_name": data}]}},
    }
    launch = read_launch(
        read_config(written(tmp_path, yaml.safe_dump(content))), client_cwd=str(tmp_path)
    )
    async with hub_server() as server:
        hub = Hub({"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}, timeout_seconds=5)
        await RepositoryChecks(launch, hub, OumiRegistry()).check()
    assert [one.key for one in launch.findings] == wrong


def test_the_workers_environment_does_not_change_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SPOT_ENV, "true")
    load_oumi()
    assert SPOT_ENV not in os.environ
