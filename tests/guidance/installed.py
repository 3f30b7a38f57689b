"""What the installed packages have: a process of its own, since importing them takes seconds.

Reads ``{"configs": [[type, yaml], ...], "defaults": [key, ...], "imports": [...]}`` from standard
input and writes what it found out to the last line of standard output, as JSON.
"""

# pyright: reportPrivateImportUsage=false
# Neither sky nor trl says what it exports.

import importlib
import inspect
import json
import sys
from importlib.metadata import metadata, version
from typing import Any, cast

import lm_eval.api.task as lm_eval_task
import oumi.core.configs as oumi_configs
import oumi.core.configs.params.evaluation_params as evaluation_params
import oumi.core.evaluation.backends.lm_harness as lm_harness
import oumi.quantize.constants as quantize_constants
import oumi.tune as oumi_tune
import sky
import trl
import typer
from omegaconf import OmegaConf
from oumi.analyze.config import TypedAnalyzeConfig
from oumi.cli.main import get_app
from oumi.core.configs.params.deepspeed_params import DeepSpeedParams
from oumi.core.registry import REGISTRY, RegistryType
from oumi.core.types.conversation import Conversation
from oumi.datasets import TextSftJsonLinesDataset
from oumi.exceptions import OumiConfigError
from sky import execution
from sky.client.cli.command import cli as sky_cli
from sky.utils import command_runner

from tests.guidance.commands import commands

CONFIGS: dict[str, Any] = {
    "training": oumi_configs.TrainingConfig,
    "evaluation": oumi_configs.EvaluationConfig,
    "inference": oumi_configs.InferenceConfig,
    "synthesis": oumi_configs.SynthesisConfig,
    "quantization": oumi_configs.QuantizationConfig,
    "analyze": TypedAnalyzeConfig,
    "job": oumi_configs.JobConfig,
}
CLOUDS = {
    "aws": sky.clouds.AWS,
    "azure": sky.clouds.Azure,
    "gcp": sky.clouds.GCP,
    "k8s": sky.clouds.Kubernetes,
    "lambda": sky.clouds.Lambda,
    "nebius": sky.clouds.Nebius,
    "runpod": sky.clouds.RunPod,
    "sky-slurm": sky.clouds.Slurm,
}
PACKAGES = ("oumi", "skypilot", "trl", "peft", "lm_eval")
STOP = sky.clouds.CloudImplementationFeatures.STOP


def main() -> None:
    asked = json.loads(sys.stdin.read())
    found = {
        "versions": {
            name: version(name) for name in ("oumi", "skypilot", "trl", "peft", "lm_eval")
        },
        "extras": metadata("oumi").get_all("Provides-Extra"),
        "registry": {kind.name: list(REGISTRY.get_all(kind)) for kind in RegistryType},
        "commands": {
            "oumi": commands(typer.main.get_command(get_app())),
            "sky": commands(sky_cli),
        },
        "config_errors": [error for kind, text in asked["configs"] for error in load(kind, text)],
        "defaults": {key: default(key) for key in asked["defaults"]},
        "missing_imports": [name for name in asked["imports"] if not can_import(*name)],
        "cannot_stop": [name for name, cloud in CLOUDS.items() if STOP in unsupported(cloud)],
        "quantize_methods": quantize_constants.SUPPORTED_METHODS,
        "analyzers": {
            name: [metric.rpartition(".")[2] for metric in analyzer.get_metric_names()]
            for name, analyzer in REGISTRY.get_all(RegistryType.SAMPLE_ANALYZER).items()
        },
        "behaviour": behaviour(),
        "conversation": [Conversation.from_dict(row).to_dict() for row in asked["conversations"]],
    }
    print("\n" + json.dumps(found))


def load(kind: str, text: str) -> list[str]:
    """What Oumi itself says against a config; that files are not here is no matter."""
    try:
        if kind == "analyze":
            content = OmegaConf.to_container(OmegaConf.create(text))
            TypedAnalyzeConfig.from_dict(cast("dict[str, Any]", content))
        else:
            OmegaConf.to_object(
                OmegaConf.merge(OmegaConf.structured(CONFIGS[kind]), OmegaConf.create(text))
            )
    except Exception as error:  # noqa: BLE001 - whatever Oumi raises is the answer
        return [f"{kind}: {type(error).__name__}: {error}"]
    return []


def default(key: str) -> str:
    value = OmegaConf.select(OmegaConf.structured(oumi_configs.TrainingConfig), key)
    return getattr(value, "name", str(value))


def can_import(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)


def unsupported(cloud: Any) -> Any:
    return getattr(cloud, "_CLOUD_UNSUPPORTED_FEATURES", {})


def refuses(kind: Any, **values: Any) -> bool:
    try:
        kind(**values)
    except (OumiConfigError, ValueError, TypeError):
        return True
    return False


def rows_format(row: dict[str, Any]) -> str:
    return TextSftJsonLinesDataset(data=[row])._format  # pyright: ignore[reportPrivateUsage]


def behaviour() -> dict[str, bool]:
    """Claims that no name can carry, each as a sentence."""
    harness = inspect.getsource(lm_harness)
    sky_exec = inspect.getsource(execution.exec)
    stages = sky_exec[sky_exec.index("stages=[") :]
    messages = [{"role": "user", "content": "a"}]
    fewshot = "if self.config.num_fewshot is None"
    return {
        "sky exec syncs the working folder": "SYNC_WORKDIR" in stages and "EXEC" in stages,
        "sky exec syncs no mounts": "SYNC_FILE_MOUNTS" not in stages,
        "sky exec runs no setup": "SETUP" not in stages,
        "SkyPilot's rsync is run with these options": (
            command_runner.RSYNC_DISPLAY_OPTION == "-Pavz"
        ),
        "a .skyignore takes the place of .gitignore": (
            "SKY_IGNORE_FILE).exists()" in inspect.getsource(command_runner)
        ),
        "TRL's GRPO has no max_prompt_length": (
            "max_prompt_length" not in inspect.signature(trl.GRPOConfig).parameters
        ),
        "TRL's GRPO shares the GPUs with vLLM": trl.GRPOConfig.vllm_mode == "colocate",
        "TRL's GRPO generates 8": trl.GRPOConfig.num_generations == 8,
        "the harness applies the chat template to image models only": (
            "apply_chat_template=is_multimodal" in harness
        ),
        "the harness sets few-shot even when it is unset": (
            'set_config(key="num_fewshot", value=task_params.num_fewshot)' in harness
        ),
        "few-shot that is unset is zero": fewshot in inspect.getsource(lm_eval_task),
        "the harness gives vLLM no adapter": (
            "adapter" not in inspect.getsource(lm_harness._add_vllm_engine_args)  # pyright: ignore[reportPrivateUsage]
        ),
        "there are two evaluation backends": (
            {backend.value for backend in evaluation_params.EvaluationBackend}
            == {"lm_harness", "custom"}
        ),
        "trials of a tuning train with TRL_SFT": (
            "trainer_type = TrainerType.TRL_SFT" in inspect.getsource(oumi_tune)
        ),
        "quantization writes safetensors only": (
            quantize_constants.SUPPORTED_OUTPUT_FORMATS == ["safetensors"]
        ),
        "rows of messages are recognised": rows_format({"messages": messages}) == "oumi",
        "rows of a conversation are recognised": (
            rows_format({"conversation": {"messages": messages}}) == "conversations"
        ),
        "Alpaca's rows are recognised": (
            rows_format({"instruction": "a", "input": "b", "output": "c"}) == "alpaca"
        ),
        "mixed precision needs float32 weights": refuses(
            oumi_configs.TrainingConfig,
            training=oumi_configs.TrainingParams(
                mixed_precision_dtype=oumi_configs.MixedPrecisionDtype.BF16
            ),
            model=oumi_configs.ModelParams(model_name="x", torch_dtype_str="bfloat16"),
        ),
        "FSDP and DeepSpeed exclude each other": refuses(
            oumi_configs.TrainingConfig,
            fsdp=oumi_configs.FSDPParams(enable_fsdp=True),
            deepspeed=DeepSpeedParams(enable_deepspeed=True),
        ),
        "a train target needs its collator": refuses(
            oumi_configs.DatasetSplitParams, train_target="all_assistant_turns"
        ),
        "synthesis refuses an output path inside inference": refuses(
            oumi_configs.SynthesisConfig,
            inference_config=oumi_configs.InferenceConfig(output_path="x"),
        ),
        "synthesis writes JSONL only": refuses(oumi_configs.SynthesisConfig, output_path="x.json"),
        "analysis refuses code": refuses(
            TypedAnalyzeConfig.from_dict,
            data={"custom_metrics": [{"id": "a", "function": "def compute(c): ..."}]},
        ),
    }


if __name__ == "__main__":
    main()
