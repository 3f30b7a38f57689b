"""Too little memory on this machine. CUDA's texts are in `logs/written.yaml`: no GPU is here."""

from tests.diagnosis.provoking.scene import Scene


def _memory(name: str, body: str, *, extra: int = 2**28) -> Scene:
    head = f"from tiny import *\nimport torch, numpy as np\nlimit_memory({extra})\n"
    return Scene(name, "out_of_memory", head + body)


SCENES = [
    _memory("memory-bytes", "chunks = [bytearray(2**26) for _ in range(99)]"),
    _memory("memory-list", "rows = []\nwhile True:\n    rows.append([0] * 2**20)"),
    _memory("memory-numpy", "np.zeros((4096, 4096, 64), dtype=np.float32)"),
    _memory("memory-numpy-stack", "np.stack([np.ones(2**22) for _ in range(16)])"),
    _memory("memory-torch", "torch.ones(2**30)"),
    _memory("memory-torch-embedding", "torch.nn.Embedding(256_000, 4096)"),
    _memory("memory-torch-matmul", "weights = torch.ones(8192, 4096)\nweights @ weights.T"),
    _memory("memory-torch-cat", "torch.cat([torch.ones(2**24) for _ in range(9)])"),
    _memory(
        "memory-training-step",
        """
from datasets import Dataset
import transformers
class Big(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **more):
        self.kept = getattr(self, "kept", []) + [torch.ones(2**24)]
trainer = sft(Dataset.from_list(rows(16)))
trainer.add_callback(Big())
trainer.train()
""",
        extra=2**29,
    ),
    _memory(
        "memory-optimizer-state",
        """
layer = torch.nn.Linear(4096, 4096)
layer(torch.ones(1, 4096)).sum().backward()
optimizer = torch.optim.AdamW(layer.parameters())
optimizer.step()
""",
        extra=2**27 + 2**25,
    ),
    _memory(
        "memory-pandas",
        """
import pandas
pandas.DataFrame(np.ones((2**22, 2))).merge(pandas.DataFrame(np.ones((2**12, 2))), how="cross")
""",
    ),
    _memory(
        "memory-read-file",
        """
open("rows.jsonl", "wb").truncate(2**31)
open("rows.jsonl", "rb").read()
""",
    ),
    _memory("memory-json", "import json\njson.loads('[' + '0,' * 2**27 + '0]')"),
    _memory("memory-arrow", "import pyarrow\npyarrow.allocate_buffer(2**34)"),
    _memory(
        "memory-save", "import io\ntorch.save(torch.ones(2**25), io.BytesIO())", extra=2**28 - 2**26
    ),
    _memory(
        "memory-caught-by-cause",
        """
def load():
    try:
        return np.ones(2**30)
    except MemoryError as error:
        raise RuntimeError("cannot build the index of the data set") from error
load()
""",
    ),
    Scene(
        "memory-map-process-killed",
        "out_of_memory",
        """
import os, signal
from datasets import Dataset
def tokenize(row):
    if row["id"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return row
Dataset.from_list([{"id": n} for n in range(4)]).map(tokenize, num_proc=2)
""",
    ),
    Scene(
        "memory-loader-worker-killed",
        "out_of_memory",
        """
import os, signal
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return index
list(DataLoader(Rows(), num_workers=2))
""",
    ),
    Scene(
        "memory-shared-too-small",
        "out_of_memory",
        """
mkdir -p disk
unshare -m bash -c 'mount -t tmpfs -o size=1m tmpfs /dev/shm && python - <<EOF
import torch
from torch.utils.data import DataLoader
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return torch.ones(2**20)
list(DataLoader(Rows(), batch_size=2, num_workers=1))
EOF'
""",
        shell=True,
    ),
    Scene(
        "memory-shell-limit",
        "out_of_memory",
        "ulimit -v 400000\npython -c 'x = [bytearray(2**20) for _ in range(2000)]'\n",
        shell=True,
    ),
]
