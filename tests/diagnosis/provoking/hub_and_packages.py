"""Repositories that the hub does not give, and packages that are missing or do not fit."""

from tests.diagnosis.provoking.scene import Scene

_HUB = """
import http.server, os, threading

class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.send_header("X-Error-Code", "{code}")
        self.send_header("X-Error-Message", "{message}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
import huggingface_hub.constants as constants
constants.HF_HUB_OFFLINE = False
constants.ENDPOINT = f"http://127.0.0.1:{{server.server_port}}"
constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.ENDPOINT + "/{{repo_id}}/resolve/{{revision}}/{{filename}}"
import huggingface_hub.hf_api as hf_api
hf_api.api.endpoint = constants.ENDPOINT
"""
_GATED = (
    403,
    "GatedRepo",
    "Access to model meta-llama/Llama-3.1-8B is restricted and you are not in the authorized list. Visit https://huggingface.co/meta-llama/Llama-3.1-8B to ask for access.",
)
_ANONYMOUS = (
    401,
    "GatedRepo",
    "Access to model meta-llama/Llama-3.1-8B is restricted. You must have access to it and be authenticated to access it. Please log in.",
)
_MISSING = (404, "RepoNotFound", "Repository not found")
_PRIVATE = (401, "RepoNotFound", "Invalid username or password.")
_REVISION = (404, "RevisionNotFound", "Invalid rev id: v9")
_NO_FILE = (404, "EntryNotFound", "Entry not found")
_FORBIDDEN = (403, "", "You do not have the required permissions: write to this repository")


def _hub(name: str, answer: tuple[int, str, str], body: str) -> Scene:
    status, code, message = answer
    head = _HUB.format(status=status, code=code, message=message)
    return Scene(name, "hub_access", head + body)


_DOWNLOAD = """
from huggingface_hub import hf_hub_download
hf_hub_download("meta-llama/Llama-3.1-8B", "config.json")
"""
_SNAPSHOT = """
from huggingface_hub import snapshot_download
snapshot_download("meta-llama/Llama-3.1-8B")
"""
_CONFIG = """
from transformers import AutoConfig
AutoConfig.from_pretrained("meta-llama/Llama-3.1-8B")
"""
_TOKENIZER = """
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")
"""
_MODEL = """
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained("{name}")
"""
_PUSH = """
from huggingface_hub import HfApi
HfApi(endpoint=constants.ENDPOINT, token="hf_x").create_repo("team/model")
"""
_OUMI_MODEL = """
import sys
from tiny import *
write("rows.jsonl", rows(8))
write("train.yaml", ['''
model: {{model_name: {name}, model_max_length: 128, torch_dtype_str: float32, device_map: cpu{more}}}
data: {{train: {{datasets: [{{dataset_name: {dataset}}}]}}}}
training:
  trainer_type: TRL_SFT
  output_dir: out
  max_steps: 2
  enable_tensorboard: false
  trainer_kwargs: {{use_cpu: true}}
'''])
sys.argv = ["oumi", "train", "-c", "train.yaml"]
from oumi.cli.main import run
run()
"""
_ROWS = "text_sft_jsonl, dataset_path: rows.jsonl"

_HUB_SCENES = [
    _hub("hub-gated-download", _GATED, _DOWNLOAD),
    _hub("hub-gated-anonymous", _ANONYMOUS, _DOWNLOAD),
    _hub("hub-missing-repository", _MISSING, _DOWNLOAD),
    _hub("hub-private-repository", _PRIVATE, _DOWNLOAD),
    _hub("hub-no-revision", _REVISION, _DOWNLOAD),
    _hub("hub-no-file", _NO_FILE, _DOWNLOAD),
    _hub("hub-gated-snapshot", _GATED, _SNAPSHOT),
    _hub("hub-missing-snapshot", _MISSING, _SNAPSHOT),
    _hub("hub-gated-config", _GATED, _CONFIG),
    _hub("hub-gated-anonymous-config", _ANONYMOUS, _CONFIG),
    _hub("hub-missing-config", _MISSING, _CONFIG),
    _hub("hub-gated-tokenizer", _GATED, _TOKENIZER),
    _hub("hub-missing-model", _PRIVATE, _MODEL.format(name="team/model")),
    _hub("hub-push-forbidden", _FORBIDDEN, _PUSH),
    _hub("hub-push-anonymous", _PRIVATE, _PUSH),
    Scene("offline-model", "hub_access", _MODEL.format(name="HuggingFaceTB/SmolLM2-135M")),
    Scene("offline-download", "hub_access", _DOWNLOAD),
    Scene("offline-snapshot", "hub_access", _SNAPSHOT),
    Scene("offline-tokenizer", "hub_access", _TOKENIZER),
    Scene(
        "offline-dataset",
        "hub_access",
        "from datasets import load_dataset\nload_dataset('yahma/alpaca-cleaned')",
    ),
    Scene("model-folder-missing", "hub_access", _MODEL.format(name="/models/llama-finetuned")),
    Scene(
        "model-folder-empty",
        "hub_access",
        "import os\nos.makedirs('empty')" + _MODEL.format(name="empty"),
    ),
    Scene(
        "model-folder-without-weights",
        "hub_access",
        """
import os, shutil
os.makedirs("half")
shutil.copy("data/model/config.json", "half")"""
        + _MODEL.format(name="half"),
    ),
    Scene(
        "adapter-missing",
        "hub_access",
        """
from tiny import *
from peft import PeftModel
PeftModel.from_pretrained(model(), "adapters/final")
""",
    ),
    Scene(
        "adapter-offline",
        "hub_access",
        """
from tiny import *
from peft import PeftModel
PeftModel.from_pretrained(model(), "team/lora-adapter")
""",
    ),
    Scene(
        "oumi-offline-model",
        "hub_access",
        _OUMI_MODEL.format(name="meta-llama/Llama-3.2-1B", dataset=_ROWS, more=""),
    ),
    Scene(
        "oumi-model-folder-missing",
        "hub_access",
        _OUMI_MODEL.format(name="./models/none", dataset=_ROWS, more=""),
    ),
    Scene(
        "oumi-offline-dataset",
        "hub_access",
        _OUMI_MODEL.format(name="data/model", dataset="yahma/alpaca-cleaned", more=""),
    ),
    Scene(
        "oumi-adapter-missing",
        "hub_access",
        _OUMI_MODEL.format(name="data/model", dataset=_ROWS, more=", adapter_model: adapters/none"),
    ),
]


def _package(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "dependency", body, shell)


_PACKAGE_SCENES = [
    _package("module-missing", "import deepspeed"),
    _package("module-missing-inside", "import transformers\nimport flash_attn_interface.ops"),
    _package("name-missing", "from transformers import AutoModelForCausalLMWithHead"),
    _package("name-missing-trl", "from trl import SFTTrainer, DataCollatorForCompletionOnlyLM"),
    _package(
        "flash-attention-missing",
        """
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained("data/model", attn_implementation="flash_attention_2")
""",
    ),
    _package(
        "flash-attention-3-missing",
        """
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained("data/model", attn_implementation="flash_attention_3")
""",
    ),
    _package(
        "bitsandbytes-missing",
        """
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
AutoModelForCausalLM.from_pretrained("data/model", quantization_config=BitsAndBytesConfig(load_in_4bit=True))
""",
    ),
    _package(
        "bitsandbytes-optimizer-missing",
        """
from tiny import *
from datasets import Dataset
sft(Dataset.from_list(rows(8)), optim="adamw_bnb_8bit").train()
""",
    ),
    _package(
        "liger-missing",
        """
from tiny import *
from datasets import Dataset
sft(Dataset.from_list(rows(8)), use_liger_kernel=True).train()
""",
    ),
    _package(
        "vllm-missing",
        """
from vllm import LLM
LLM("data/model")
""",
    ),
    _package(
        "deepspeed-missing",
        """
from tiny import *
from datasets import Dataset
sft(Dataset.from_list(rows(8)), deepspeed={"zero_optimization": {"stage": 2}}).train()
""",
    ),
    _package(
        "package-version-missing",
        """
from importlib.metadata import version
version("flash-attn")
""",
    ),
    _package(
        "version-too-old",
        """
from transformers.utils.versions import require_version
require_version("torch>=99.0", "Upgrade torch to use this recipe.")
""",
    ),
    _package("no-gpu-driver", "python -c 'import torch; torch.zeros(2).cuda()'\n", shell=True),
    _package("shared-library-missing", "import ctypes\nctypes.CDLL('libcudnn_ops_infer.so.8')"),
    _package(
        "extension-missing",
        """
import os
os.makedirs("fast_ops")
open("fast_ops/__init__.py", "w").write("from fast_ops._C import forward")
import fast_ops
""",
    ),
    _package(
        "broken-shared-object",
        """
import os
os.makedirs("fast_kernels")
open("fast_kernels/__init__.py", "w").write("from . import _C")
open("fast_kernels/_C.so", "wb").write(b"not a library")
import fast_kernels
""",
    ),
    _package(
        "undefined-symbol",
        """
import subprocess, sysconfig
code = "extern void torch_new_symbol(void); void *PyInit__ops(void) { torch_new_symbol(); return 0; }"
open("ops.c", "w").write(code)
subprocess.run(["gcc", "-shared", "-fPIC", "-o", "_ops.so", "ops.c"], check=True)
import _ops
""",
    ),
    _package(
        "shell-command-missing", "set -e\necho starting\naccelerate-launch2 train.py\n", shell=True
    ),
    _package(
        "shell-python-module-missing", "python -m axolotl.cli.train config.yaml\n", shell=True
    ),
    _package(
        "pip-no-version",
        "pip install --no-index 'flash-attn==9.9.9' && python train.py\n",
        shell=True,
    ),
    _package(
        "pip-conflict",
        "pip install --no-index --dry-run 'torch==2.10.0' 'torch==2.4.0'\n",
        shell=True,
    ),
    _package("torch-operator-missing", "import torch\ntorch.ops.flash_attn.fwd(1)"),
    _package(
        "numpy-api-gone",
        """
import numpy
numpy.float(1)
""",
    ),
    _package(
        "transformers-too-new-model",
        """
import json, pathlib, shutil
shutil.copytree("data/model", "model")
config = json.loads(pathlib.Path("model/config.json").read_text())
pathlib.Path("model/config.json").write_text(json.dumps(config | {"model_type": "llama9", "architectures": ["Llama9"]}))
from transformers import AutoModelForCausalLM
AutoModelForCausalLM.from_pretrained("model")
""",
    ),
    _package(
        "sentencepiece-missing",
        """
import sys
sys.modules["sentencepiece"] = None
import sentencepiece
""",
    ),
    _package(
        "extra-missing",
        """
import importlib.metadata, pkg_resources
pkg_resources.require("oumi-nothing>=3")
""",
    ),
]

SCENES = [*_HUB_SCENES, *_PACKAGE_SCENES]
