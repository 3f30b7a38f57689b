"""The corpus of configs, and the little world in which they are checked."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from flows.core.checks.file_checks import check_files
from flows.core.checks.launch import Launch, read_launch
from flows.core.checks.target import parse_accelerator
from flows.core.configs.processes import SHARDED
from flows.core.configs.reader import read_config
from flows.core.findings import CloudReadiness, Finding, Gpu, Hardware
from flows.core.models import GpuCount
from flows.launcher.oumi.machine import Machine
from flows.launcher.oumi.registry import OumiRegistry
from flows.launcher.sky.readiness import SkyReadiness
from flows.machine_checks.checks import WorkerChecks
from flows.machine_checks.hub import Hub
from tests.checks.hub_server import HubServer

CORPUS: Final = Path(__file__).with_name("corpus")
RECIPES: Final = Path(__file__).parents[2] / "mcp_server" / "recipes"
_JOBS: Final = RECIPES / "jobs"
_LOSE_OUTPUT: Final = ("azure_train", "k8s_train", "lambda_train", "nebius_train", "runpod_train")
"""Recipes that leave it to the person to mount a bucket."""

_CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
_DATA = "data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: %s}]}}\n"
_TRAIN = f"model: {{model_name: ./model}}\n{_DATA}training: {{trainer_type: TRL_SFT}}\n"
_LORA = _TRAIN.replace("TRL_SFT", "TRL_SFT, use_peft: true") + "peft: {lora_r: 8}\n"
_FILES = {
    "train.yaml": _TRAIN % "data/train.jsonl",
    "lora.yaml": _LORA % "data/train.jsonl",
    "fsdp.yaml": _LORA % "data/train.jsonl" + "fsdp: {enable_fsdp: true}\n",
    "broken.yaml": (_TRAIN % "data/train.jsonl").replace("TRL_SFT", "TRL_SFT, max_stepz: 3"),
    "mounted.yaml": _TRAIN % "/data/train.jsonl",
    "tmp_data.yaml": _TRAIN % "/tmp/d.jsonl",
    "no_data.yaml": _TRAIN % "made.jsonl",
    "private_data.yaml": _TRAIN % "sub/private/train.jsonl",
    "sub/.gitignore": "/private\n",
    "quantize.yaml": "model: {model_name: ./model}\nmethod: bnb_4bit\noutput_path: small\n",
    "analyze.yaml": "dataset_path: data/train.jsonl\nanalyzers: [length]\n",
    "ignored_data.yaml": _TRAIN % "ignored/train.jsonl",
    "ignored/train.yaml": _TRAIN % "data/train.jsonl",
    "nested/train.yaml": (_TRAIN % "../data/train.jsonl").replace("./model", "../model"),
    "nested/for_cloud.yaml": _TRAIN % "data/train.jsonl",
    "sky/train.yaml": (_TRAIN % "big/train.jsonl").replace("./model", "org/model"),
    "sky/.skyignore": "# not sent\nbig\n",
    "eval.yaml": "model: {model_name: ./model}\ntasks: [{evaluation_backend: lm_harness}]\n",
    "evaluate.yaml": "model: {model_name: ./model}\ntasks: [{evaluation_backend: lm_harness}]\n",
    "infer.yaml": "model: {model_name: ./model}\ninput_path: data/prompts.jsonl\n",
    "infer_with_data.yaml": _DATA % "data/train.jsonl"
    + "model: {model_name: ./model}\ninput_path: data/prompts.jsonl\n",
    ".gitignore": "ignored/\n*.tmp\n",
    "netrc": "machine api.wandb.ai\n",
    "requirements.txt": "oumi\n",
    "make_data.py": "",
    "main.py": "",
    "train.py": "",
    ".env": "",
    "venv/bin/activate": "",
    "model/config.json": '{"torch_dtype": "float32"}',
    "model/model.safetensors": "x" * 1000,
    "data/bad.jsonl": '{"messages": []}\nnot json\n',
    "data/empty.jsonl": "",
    "data/texts.jsonl": '{"text": "Hi"}\n',
    "data/human.jsonl": '{"messages": [{"role": "human", "content": "Hi"}]}\n',
    "data/alpaca.jsonl": '{"instruction": "Say hi", "input": "", "output": "Hi"}\n',
    "data/no_input.jsonl": '{"instruction": "Say hi", "output": "Hi"}\n',
    "data/nested.jsonl": json.dumps({"conversation": _CHAT}) + "\n",
    "data/mixed.jsonl": json.dumps(_CHAT) + '\n{"instruction": "", "input": "", "output": ""}\n',
    "data/pairs.jsonl": '{"prompt": "Say hi", "chosen": "Hi", "rejected": "Ho"}\n' * 3,
    "data/documents/one.txt": "text",
    "output/smollm2_135m_sft_full/config.json": "{}",
}


@dataclass(frozen=True)
class Case:
    """A config of the corpus.

    Attributes:
        code, key, severity: The defect's finding; empty for a clean config.
        options: ``cloud``, ``gpu``, ``gpus``, ``free``, ``disk``, ``without``, ``torch``, ``build``
            and ``env`` of the world it is in.
    """

    name: str
    text: str
    code: str = ""
    key: str = ""
    severity: str = "error"
    options: dict[str, str] = field(default_factory=dict[str, str])


def broken_cases() -> list[Case]:
    """Configs with one defect each."""
    found: list[Case] = []
    for file in ("broken_recipes.yaml", "broken_jobs.yaml"):
        for header, text in _split(CORPUS / file):
            name, code, key, words = [*(part.strip() for part in header.split("|")), ""][:4]
            severity = "warning" if "warning" in words.split() else "error"
            found.append(Case(name, text, code, key, severity, _options(words)))
    for name in _LOSE_OUTPUT:
        text = (RECIPES / "jobs" / f"{name}.yaml").read_text(encoding="utf-8")
        key = "training.output_dir"
        found.append(Case(f"recipe {name}", text, "ephemeral_output", key, "warning"))
    return found


def clean_cases() -> list[Case]:
    """Configs without any defect: our own, and every recipe that we ship."""
    found = [
        Case((parts := header.split("|"))[0].strip(), text, options=_options(parts[-1]))
        for header, text in _split(CORPUS / "clean.yaml")
    ]
    keys = "env=OPENAI_API_KEY,ANTHROPIC_API_KEY,GEMINI_API_KEY,WANDB_API_KEY"
    for path in sorted(RECIPES.rglob("*.yaml")):
        if path.stem in _LOSE_OUTPUT:
            continue
        text = path.read_text(encoding="utf-8")
        # One GPU is enough for all but what says otherwise.
        is_sharded = _is_written_for_several(text, yaml.safe_load(text))
        gpus = "gpu=H100:8 gpus=8" if is_sharded and path.parent != _JOBS else "gpu=H100:1"
        found.append(Case(f"recipe {path.stem}", text, options=_options(f"{gpus} {keys}")))
    return found


def _is_written_for_several(text: str, data: Mapping[str, Any]) -> bool:
    """Whether a config is written for more than one process."""
    blocks = [key.partition(".")[::2] for key in SHARDED]
    if any((data.get(block) or {}).get(name) for block, name in blocks):
        return True
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    return any(re.search("oumi distributed|torchrun|accelerate launch", line) for line in comments)


def build_world(folder: Path) -> None:
    """Write the project's files."""
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chats = "\n".join([json.dumps(_CHAT)] * 3) + "\n"
    for name in ("data/train", "data/more", "data/prompts", "ignored/train", "sky/big/train",
                 "sub/private/train"):  # fmt: skip
        (folder / f"{name}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text(chats)
    (folder / "nested" / "data").mkdir()
    (folder / "data" / "latin.jsonl").write_bytes('{"a": "ü"}\n'.encode("latin-1"))
    (folder / "absolute.yaml").write_text(_TRAIN % (folder / "data" / "train.jsonl"))
    subprocess.run(["git", "init", "-q", str(folder)], check=True, env={**os.environ, "HOME": "/"})


class World:
    """The folder, machine, hub and clouds of the corpus.

    Args:
        folder: The project.
        hub: The hub's server.
    """

    def __init__(self, folder: Path, hub: HubServer) -> None:
        self.folder = folder
        self.outside = folder.parents[1] / "outside"
        self.outside.mkdir()
        self._hub = hub
        home = folder.parent / "hf"
        cached = home / "hub" / "models--org--cached"
        (cached / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
        (cached / "snapshots" / "abc" / "config.json").touch()
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / "main").write_text("abc")
        (home / "token").write_text(hub.token)

    async def findings(self, case: Case) -> list[Finding]:
        """Everything that is found in a case, here and on the worker."""
        path = self.folder / "case.yaml"
        text = case.text.replace("{folder}", str(self.folder))
        path.write_text(text.replace("{outside}", str(self.outside)))
        cloud = case.options.get("cloud", "")
        gpus = parse_gpus(case.options.get("gpus"))
        here = check_files(self._read(path, cloud, gpus), cloud=cloud).findings
        worker = await self._checks(case).all(self._read(path, cloud, gpus))
        return here + worker.findings

    def _read(self, path: Path, cloud: str, gpus: GpuCount | None) -> Launch:
        config = read_config(path)
        return read_launch(config, client_cwd=str(self.folder), cloud=cloud, gpus=gpus)

    def _checks(self, case: Case) -> WorkerChecks:
        environ = {"HF_ENDPOINT": self._hub.url, "HF_HOME": str(self.folder.parent / "hf")}
        given = filter(None, case.options.get("env", "").split(","))
        environ |= dict.fromkeys(given, "x")
        return WorkerChecks(
            soon_seconds=20.0,
            machine=FakeMachine(case.options),
            hub=Hub(environ, timeout_seconds=20.0),
            registry=OumiRegistry(),
            clouds=FakeClouds(case.options),
            environ=environ,
        )


def parse_gpus(text: str | None) -> GpuCount | None:
    return text if text is None or text == "all" else int(text)


class FakeMachine(Machine):
    """A machine with the GPUs, packages and disk that a case asks for."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__()
        self._options = options

    def gpu_count(self) -> int:
        return len(self.hardware().gpus)

    def hardware(self) -> Hardware:
        asked = parse_accelerator(self._options.get("gpu", "H200"))
        assert asked
        model = asked.model
        gpus: list[Gpu] = []
        if model:
            gpu = Gpu(
                name=asked.name,
                memory_gb=model.memory_gb,
                compute_capability=str(model.capability),
            )
            free = [float(one) for one in filter(None, self._options.get("free", "").split(","))]
            gpus = [
                gpu.model_copy(update={"free_memory_gb": dict(enumerate(free)).get(number)})
                for number in range(int(asked.number))
            ]
        return Hardware(
            where="worker",
            accelerator_type="cuda" if gpus else "other" if asked.name == "amd" else "none",
            accelerator_count=len(gpus),
            gpus=gpus,
            memory_gb=64,
            packages={"torch": self._options.get("torch", "2.10.0")},
        )

    def torch_build(self) -> str:
        return self._options.get("build", "cuda")

    def has_package(self, name: str) -> bool:
        return name not in self._options.get("without", "").split(",")

    def free_disk_gb(self, path: Path) -> float | None:
        return float(self._options.get("disk", 10_000))


class FakeClouds(SkyReadiness):
    """Clouds that are as ready as a case says: ``ready=no`` or ``ready=unknown``."""

    def __init__(self, options: dict[str, str]) -> None:
        super().__init__()
        self._options = options

    def readiness(self, cloud: str) -> CloudReadiness:
        ready = {"no": False, "unknown": None}.get(self._options.get("ready", ""), True)
        reason = "" if ready else "it is so in this test"
        return CloudReadiness(target_cloud=cloud, target_cloud_ready=ready, reason=reason)


def _split(path: Path) -> list[tuple[str, str]]:
    parts = path.read_text(encoding="utf-8").split("#: ")[1:]
    pairs = [part.partition("\n") for part in parts]
    return [(header, text) for header, _, text in pairs]


def _options(words: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words.split() if "=" in word]
    return {name: value for name, _, value in pairs}
