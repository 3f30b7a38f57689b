"""File systems without space."""

from tests.diagnosis.provoking.scene import Scene

_SMALL = """
from tiny import *
import os, subprocess
os.makedirs("disk", exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=SIZE", "tmpfs", "disk"], check=True)
"""


def _disk(name: str, body: str, *, size: str = "128k") -> Scene:
    return Scene(name, "disk_full", _SMALL.replace("SIZE", size) + body)


def _shell(name: str, body: str) -> Scene:
    head = "mkdir -p disk && mount -t tmpfs -o size=64k tmpfs disk\n"
    return Scene(name, "disk_full", head + body, shell=True)


SCENES = [
    _disk("disk-write", "with open('disk/rows.txt', 'w') as file:\n    file.write('x' * 2**20)"),
    _disk("disk-device-full", "with open('/dev/full', 'w') as file:\n    file.write('x' * 2**20)"),
    _disk("disk-save-pretrained", "model().save_pretrained('disk/checkpoint-5')"),
    _disk("disk-torch-save", "import torch\ntorch.save(torch.ones(2**20), 'disk/optimizer.pt')"),
    _disk(
        "disk-torch-save-old-format",
        "import torch\ntorch.save(torch.ones(2**20), 'disk/optimizer.pt', _use_new_zipfile_serialization=False)",
    ),
    _disk("disk-numpy-save", "import numpy\nnumpy.save('disk/embeddings.npy', numpy.ones(2**18))"),
    _disk("disk-tokenizer", "tokenizer().save_pretrained('disk/out')", size="8k"),
    _disk(
        "disk-dataset-save",
        "from datasets import Dataset\nDataset.from_list(rows(400) * 20).save_to_disk('disk/prepared')",
    ),
    _disk(
        "disk-dataset-map",
        """
from datasets import Dataset
Dataset.from_list(rows(400) * 20).save_to_disk("prepared")
from datasets import load_from_disk
load_from_disk("prepared").map(lambda row: row | {"copy": row["messages"]}, cache_file_name="disk/cache.arrow")
""",
    ),
    _disk(
        "disk-dataset-cache",
        """
from datasets import load_dataset
write("rows.jsonl", rows(400) * 20)
load_dataset("json", data_files="rows.jsonl", split="train", cache_dir="disk/cache")
""",
    ),
    _disk(
        "disk-trainer-checkpoint",
        """
from datasets import Dataset
import trl
args = trl.SFTConfig("disk/out", use_cpu=True, report_to=[], save_steps=2, max_steps=6)
trl.SFTTrainer(model(), args, train_dataset=Dataset.from_list(rows(16)), processing_class=tokenizer()).train()
""",
        size="1m",
    ),
    _disk(
        "disk-trainer-optimizer",
        """
from datasets import Dataset
import trl
args = trl.SFTConfig("disk/out", use_cpu=True, report_to=[], save_steps=2, max_steps=6)
trl.SFTTrainer(model(), args, train_dataset=Dataset.from_list(rows(16)), processing_class=tokenizer()).train()
""",
        size="500k",
    ),
    _disk(
        "disk-adapter",
        """
from peft import LoraConfig, get_peft_model
get_peft_model(model(), LoraConfig(target_modules=["q_proj", "up_proj"], r=64)).save_pretrained("disk/adapter")
""",
    ),
    _disk("disk-copy", "import shutil\nshutil.copytree('data/model/', 'disk/model')"),
    _disk(
        "disk-no-inode",
        "for n in range(9):\n    open(f'disk/{n}', 'w').close()",
        size="64k,nr_inodes=4",
    ),
    _disk(
        "disk-parquet",
        "from datasets import Dataset\nDataset.from_list(rows(400) * 20).to_parquet('disk/rows.parquet')",
        size="4k",
    ),
    _disk(
        "disk-tensorboard",
        """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("disk/runs")
for step in range(20_000):
    writer.add_scalar("loss", 1.0, step)
writer.close()
writer.flush()
""",
        size="8k",
    ),
    _disk(
        "disk-json-log",
        "import json\nwith open('disk/metrics.jsonl', 'a', 1) as log:\n    for step in range(9999):\n        print(json.dumps({'step': step}), file=log)",
        size="8k",
    ),
    _disk(
        "disk-file-size-limit",
        """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17))
model().save_pretrained("out")
""",
    ),
    Scene(
        "disk-oumi-checkpoint",
        "disk_full",
        _SMALL.replace("SIZE", "700k")
        + """
import sys
write("rows.jsonl", rows(16))
write("train.yaml", ['''
model: {model_name: data/model, model_max_length: 128, torch_dtype_str: float32, device_map: cpu}
data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: rows.jsonl}]}}
training:
  trainer_type: TRL_SFT
  output_dir: disk/out
  max_steps: 6
  save_steps: 2
  per_device_train_batch_size: 4
  enable_tensorboard: false
  trainer_kwargs: {use_cpu: true}
'''])
sys.argv = ["oumi", "train", "-c", "train.yaml"]
from oumi.cli.main import run
run()
""",
    ),
    _shell("disk-cp", "cp data/model/model.safetensors disk/\n"),
    _shell("disk-tar", "tar cf disk/model.tar -C data model\n"),
    _shell("disk-dd", "dd if=/dev/zero of=disk/swap bs=1k count=999\n"),
    _shell("disk-echo", "set -e\nfor n in 1 2 3; do head -c 40000 /dev/zero >> disk/log; done\n"),
    _shell(
        "disk-pip-cache",
        "set -o pipefail\npython -c \"print('x' * 200000)\" | tee disk/log > /dev/null || exit 1\n",
    ),
    _shell("disk-python-redirected", "python -c \"print('x' * 200000)\" > disk/log\n"),
]
