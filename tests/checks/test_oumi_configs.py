"""What Oumi's own classes say. Imports Oumi once."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from flows.core.configs.schema import ConfigType
from flows.core.findings import OumiProblem
from flows.launcher.oumi.config_classes import oumi_problems

GOOD = {
    ConfigType.TRAINING: "{model: {model_name: m}, data: {train: {datasets: [{dataset_name: a}]}}}",
    ConfigType.EVALUATION: "{model: {model_name: m}, tasks: [{evaluation_backend: lm_harness}]}",
    ConfigType.INFERENCE: "{model: {model_name: m}, engine: VLLM}",
    ConfigType.TUNING: "{model: {model_name: m}, data: {train: {datasets: [{dataset_name: a}]}}}",
    ConfigType.SYNTHESIS: "{inference_config: {model: {model_name: m}}, output_path: a.jsonl}",
    ConfigType.QUANTIZATION: "{model: {model_name: m}, method: bnb_4bit}",
    ConfigType.ANALYZE: "{dataset_path: a.jsonl, analyzers: [length, {type: quality, id: q}]}",
    ConfigType.JOB: "{resources: {cloud: gcp}, run: 'echo ${HOME}', envs: {A: '${B}'}}",
    ConfigType.JUDGE: "{judge_params: {prompt_template: 'Is {answer} good?'}}",
    ConfigType.ASYNC_EVALUATION: "{evaluation: {model: {model_name: m}}, checkpoints_dir: a, "
    "polling_interval: 5}",
}


def problems(
    text: str, config_type: ConfigType = ConfigType.TRAINING, folder: Path = Path("/")
) -> list[OumiProblem]:
    return oumi_problems(yaml.safe_load(text), config_type, folder=folder)


def refused(text: str, config_type: ConfigType = ConfigType.TRAINING) -> list[str]:
    return [problem.key for problem in problems(text, config_type)]


@pytest.mark.parametrize("config_type", list(ConfigType))
def test_oumi_refuses_nothing_in_a_good_config(config_type: ConfigType) -> None:
    assert refused(GOOD[config_type], config_type) == []


MANY = """
model: {model_name: m, model_max_length: -4, attn_implementation: flash_attention_2,
        compile: true, torch_dtype_str: bloat16}
data:
  train: {collator_name: a, mixture_strategy: foo, datasets: [
    {dataset_name: a, mixture_proportion: 2.0, sample_count: -3}, {dataset_name: b}]}
  validation: {collator_name: b}
training: {gradient_accumulation_steps: 0, max_grad_norm: -1, max_stepz: 4, max_steps: many,
           num_train_epochs: 0, eval_steps: 2.5, grpo: {temperature: 4}, reward_functions: [x],
           mixed_precision_dtype: BF16, trainer_type: TRL_SFT}
fsdp: {enable_fsdp: true}
deepspeed: {enable_deepspeed: true}
"""


def test_everything_is_refused_at_once_each_by_its_key() -> None:
    assert sorted(refused(MANY)) == [
        "data.train.datasets[0].mixture_proportion",
        "data.train.datasets[0].sample_count",
        "data.train.mixture_strategy",
        "data.validation.collator_name",
        "fsdp.enable_fsdp",
        "model.attn_implementation",
        "model.compile",
        "model.model_max_length",
        "model.torch_dtype_str",
        "training.eval_steps",
        "training.gradient_accumulation_steps",
        "training.grpo.temperature",
        "training.max_grad_norm",
        "training.mixed_precision_dtype",
        "training.num_train_epochs",
        "training.reward_functions",
    ]


def test_a_config_with_many_errors_is_checked_well_within_a_second() -> None:
    problems(MANY)
    before = time.process_time()
    problems(MANY)
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("config_type", "text", "keys"),
    [
        (ConfigType.QUANTIZATION, "{model: {model_name: m}, method: q9, output_format: gguf}",
         ["output_format", "method"]),
        (ConfigType.SYNTHESIS, "{output_path: a.txt, inference_config: {model: {model_name: m}, "
         "input_path: b}, strategy_params: {sampled_attributes: [{id: '', name: n, "
         "description: d, possible_values: []}]}}",
         ["strategy_params.sampled_attributes[0].id", "inference_config.input_path",
          "output_path"]),
        (ConfigType.ANALYZE, "{analyzers: [length, {type: q, id: b}, {type: q, id: b}]}",
         ["analyzers[2]"]),
        (ConfigType.INFERENCE, "{model: {model_name: m}, generation: {temperature: -1, top_p: 3}}",
         ["generation.temperature", "generation.top_p"]),
        (ConfigType.ASYNC_EVALUATION, "{evaluation: {model: {model_name: m}}, checkpoints_dir: a, "
         "polling_interval: -1}", ["polling_interval"]),
        (ConfigType.TRAINING, "{model: {model_name: m}}", ["data"]),
        (ConfigType.TRAINING, "{model: {model_name: m}, data: {train: {datasets: "
         "[{dataset_name: a}]}}, deepspeed: {enable_deepspeed: true, offload_param: "
         "{device: CPU}}}", ["deepspeed.offload_param"]),
    ],
)  # fmt: skip
def test_an_error_is_laid_to_the_key_that_makes_it(
    config_type: ConfigType, text: str, keys: list[str]
) -> None:
    assert refused(text, config_type) == keys


def test_what_another_machine_may_have_is_told_apart(tmp_path: Path) -> None:
    text = (
        "{model: {model_name: m, attn_implementation: flash_attention_2}, "
        "training: {max_grad_norm: -1}, "
        "data: {train: {datasets: [{dataset_name: a, dataset_path: d.jsonl}]}}}"
    )
    is_of_host = {problem.key: problem.is_of_host for problem in problems(text, folder=tmp_path)}
    assert is_of_host == {
        "data.train.datasets[0].dataset_path": True,
        "model.attn_implementation": True,
        "training.max_grad_norm": False,
    }


def test_a_relative_path_starts_from_the_clients_folder(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("{}")
    text = (
        "{model: {model_name: m}, data: {train: {datasets: "
        "[{dataset_name: a, dataset_path: d.jsonl}]}}}"
    )
    assert problems(text, folder=tmp_path) == []


def test_the_hub_is_not_asked_and_its_setting_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    text = "{model: {model_name: org/name}, data: {train: {datasets: [{dataset_name: a}]}}}"
    assert problems(text) == []
    assert constants.HF_HUB_OFFLINE is False
