"""Failures provoked after the rules were written, to measure them: data, hub, packages."""

from tests.diagnosis.provoking.hub_and_packages import (
    _ANONYMOUS,
    _FORBIDDEN,
    _GATED,
    _MISSING,
    _NO_FILE,
    _hub,
)
from tests.diagnosis.provoking.scene import Scene

_HEAD = "from tiny import *\nfrom datasets import Dataset, load_dataset\n"
_OUMI = """
import sys
from tiny import *
{before}
write("task.yaml", ['''
{config}
'''])
sys.argv = ["oumi", "{command}", "-c", "task.yaml"]
from oumi.cli.main import run
run()
"""
_TRAIN = """
model: {{model_name: {model}, model_max_length: 128, torch_dtype_str: float32, device_map: cpu{more}}}
data: {{train: {{datasets: [{{dataset_name: {dataset}}}]{data}}}}}
training:
  trainer_type: {trainer}
  output_dir: out
  max_steps: 2
  enable_tensorboard: false
  trainer_kwargs: {{use_cpu: true}}
"""


def _train(
    name: str, kind: str, *, model: str = "data/model", more: str = "", data: str = "",
    dataset: str = "text_sft_jsonl, dataset_path: rows.jsonl", trainer: str = "TRL_SFT",
    before: str = 'write("rows.jsonl", rows(8))',
) -> Scene:  # fmt: skip
    config = _TRAIN.format(model=model, more=more, data=data, dataset=dataset, trainer=trainer)
    return Scene(name, kind, _OUMI.format(before=before, config=config, command="train"))


def _data(name: str, body: str) -> Scene:
    return Scene(name, "data_error", _HEAD + body)


def _hub_access(name: str, body: str) -> Scene:
    return Scene(name, "hub_access", body)


def _package(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "dependency", body, shell)


SCENES = [
    _data("later-json-nested-type", """
write("rows.jsonl", [{"messages": [{"role": "user", "content": "a"}]}] * 3 + [{"messages": "text"}])
load_dataset("json", data_files="rows.jsonl", split="train", features=Dataset.from_list(rows(2)).features)
"""),
    _data("later-json-array-cut", """
write("rows.json", ['[{"text": "a"}, {"text": "b"'])
load_dataset("json", data_files="rows.json", split="train")
"""),
    _data("later-csv-missing-column", """
write("rows.csv", ["prompt,answer", "a,b"])
load_dataset("csv", data_files="rows.csv", split="train").map(lambda row: {"text": row["prompt"] + row["response"]})
"""),
    _data("later-features-mismatch", """
from datasets import Features, Value
write("rows.jsonl", [{"text": "a", "score": "high"}] * 3)
load_dataset("json", data_files="rows.jsonl", split="train", features=Features({"text": Value("string"), "score": Value("float32")}))
"""),
    _data("later-concatenate-features", """
from datasets import concatenate_datasets
concatenate_datasets([Dataset.from_list([{"label": 1}]), Dataset.from_list([{"label": "a"}])])
"""),
    _data("later-filter-none", 'Dataset.from_list([{"text": "a"}, {"text": None}]).filter(lambda row: len(row["text"]) > 0)'),
    _data("later-batched-map-key", 'Dataset.from_list([{"text": "a"}] * 4).map(lambda batch: tokenizer()(batch["content"]), batched=True)'),
    _data("later-worker-key-error", """
from torch.utils.data import DataLoader
class Rows(list):
    def __getitem__(self, index):
        return {"input_ids": [1]}["labels"]
list(DataLoader(Rows([1, 2, 3]), num_workers=1))
"""),
    _data("later-sampler-empty", """
from torch.utils.data import DataLoader
DataLoader([], shuffle=True)
"""),
    _data("later-collate-strings", """
import torch
from torch.utils.data import DataLoader
list(DataLoader([{"x": torch.ones(2)}, {"y": torch.ones(2)}], batch_size=2))
"""),
    _data("later-tokenizer-number", 'Dataset.from_list([{"text": 3}]).map(lambda row: tokenizer()(row["text"]))'),
    _data("later-dpo-wrong-type", """
from trl import DPOConfig, DPOTrainer
args = DPOConfig("out", use_cpu=True, report_to=[], max_steps=2)
DPOTrainer(model(), args=args, train_dataset=Dataset.from_list([{"prompt": "a", "chosen": 1, "rejected": 2}] * 8), processing_class=tokenizer()).train()
"""),
    _data("later-grpo-no-prompt", """
from trl import GRPOConfig, GRPOTrainer
args = GRPOConfig("out", use_cpu=True, report_to=[], max_steps=2, per_device_train_batch_size=4, num_generations=4, max_completion_length=8)
GRPOTrainer(MODEL, lambda completions, **more: [0.0] * len(completions), args=args, train_dataset=Dataset.from_list([{"question": "a"}] * 8)).train()
"""),
    _data("later-position-outside", """
import torch
torch.nn.Embedding(16, 4)(torch.tensor([3, 16]))
"""),
    _data("later-missing-parquet", 'load_dataset("parquet", data_files="shard-00000.parquet", split="train")'),
    _train("later-oumi-missing-file", "data_error", before=""),
    _train("later-oumi-text-row", "data_error", before='write("rows.jsonl", [*rows(3), "oops"])'),
    _train("later-oumi-null-content", "data_error", before='write("rows.jsonl", [{"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "a"}]}] * 8)'),
    _train("later-oumi-gated-name", "hub_access", model="meta-llama/Llama-3.1-8B-Instruct"),
    _train("later-oumi-tokenizer-missing", "hub_access", more=", tokenizer_name: tokenizers/none"),
    _train("later-oumi-flash-attention", "dependency", more=", attn_implementation: flash_attention_2"),
    Scene("later-oumi-infer-no-model", "hub_access", _OUMI.format(before='write("in.jsonl", rows(2))', command="infer", config="""
model: {model_name: runs/train/final, torch_dtype_str: float32, device_map: cpu}
engine: NATIVE
input_path: in.jsonl
output_path: out.jsonl
""")),
    Scene("later-oumi-infer-vllm", "dependency", _OUMI.format(before='write("in.jsonl", rows(2))', command="infer", config="""
model: {model_name: data/model, torch_dtype_str: float32, device_map: cpu}
engine: VLLM
input_path: in.jsonl
output_path: out.jsonl
""")),
    _hub("later-hub-gated-file", _GATED, """
from huggingface_hub import hf_hub_download
hf_hub_download("google/gemma-3-4b-it", "model.safetensors", token="hf_x")
"""),
    _hub("later-hub-gated-model", _ANONYMOUS, """
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B")
"""),
    _hub("later-hub-info-missing", _MISSING, """
from huggingface_hub import HfApi
HfApi(endpoint=constants.ENDPOINT).model_info("team/no-such-model")
"""),
    _hub("later-hub-no-config", _NO_FILE, """
from transformers import AutoConfig
AutoConfig.from_pretrained("team/only-weights")
"""),
    _hub("later-hub-upload-forbidden", _FORBIDDEN, """
from huggingface_hub import HfApi
open("a.txt", "w").write("a")
HfApi(endpoint=constants.ENDPOINT, token="hf_x").upload_file(path_or_fileobj="a.txt", path_in_repo="a.txt", repo_id="team/model")
"""),
    _hub_access("later-offline-processor", "from transformers import AutoProcessor\nAutoProcessor.from_pretrained('llava-hf/llava-1.5-7b-hf')"),
    _hub_access("later-offline-dataset-name", "from datasets import load_dataset\nload_dataset('openai/gsm8k', 'main', split='train')"),
    _hub_access("later-offline-peft", "from peft import AutoPeftModelForCausalLM\nAutoPeftModelForCausalLM.from_pretrained('team/adapter')"),
    _hub_access("later-offline-pipeline", "from transformers import pipeline\npipeline('text-generation', model='gpt2')"),
    _hub_access("later-tokenizer-folder-missing", "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('./runs/tokenizer')"),
    _package("later-triton-missing", "import triton_kernels.swiglu"),
    _package("later-apex-missing", "from apex.optimizers import FusedAdam"),
    _package("later-name-gone", "from transformers import AdamW"),
    _package("later-name-gone-datasets", "from datasets import load_metric"),
    _package("later-submodule-gone", "import trl.trainer.ppo_config_v2"),
    _package("later-glibc", """
import subprocess
open("a.c", "w").write("void needed(void); void PyInit_kernels(void) { needed(); }")
subprocess.run(["gcc", "-shared", "-fPIC", "-o", "libneeded.so", "-x", "c", "-"], input=b"void needed(void) {}", check=True)
subprocess.run(["gcc", "-shared", "-fPIC", "-o", "kernels.so", "a.c", "-L.", "-lneeded"], check=True)
import os
os.remove("libneeded.so")
import kernels
"""),
    _package("later-gptq-missing", """
from transformers import AutoModelForCausalLM, GPTQConfig
AutoModelForCausalLM.from_pretrained("data/model", quantization_config=GPTQConfig(bits=4, dataset=["a"]))
"""),
    _package("later-hqq-missing", """
from transformers import AutoModelForCausalLM, HqqConfig
AutoModelForCausalLM.from_pretrained("data/model", quantization_config=HqqConfig(nbits=4))
"""),
    _package("later-attribute-gone", "import datasets\ndatasets.load_metric('rouge')"),
    _package("later-shell-uv-missing", "set -e\nuvx-nothing oumi train -c train.yaml\n", shell=True),
    _package("later-shell-module", "python -m deepspeed.launcher.runner train.py\n", shell=True),
    _package("later-pip-requirements", "printf 'torch>=99\\n' > requirements.txt\npip install --no-index -r requirements.txt\n", shell=True),
]  # fmt: skip
