"""Failures provoked after the rules were written, to measure them: machines and programs."""

from tests.diagnosis.provoking.broken_networks import _ONLINE, _SERVER, _ranks
from tests.diagnosis.provoking.broken_programs import _torchrun
from tests.diagnosis.provoking.full_disks import _disk, _shell
from tests.diagnosis.provoking.little_memory import _memory
from tests.diagnosis.provoking.scene import Scene


def _crash(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "crash", body if shell else "from tiny import *\n" + body, shell)


def _killed(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "killed", body, shell)


def _net(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "network", body, shell)


SCENES = [
    _memory("later-memory-dict", "table = {}\nfor n in range(10**9):\n    table[n] = str(n) * 100"),
    _memory("later-memory-zeros-like", "a = np.zeros((2**14, 2**10))\nkept = [np.copy(a) for _ in range(40)]"),
    _memory("later-memory-torch-randn", "weights = [torch.randn(2**24) for _ in range(20)]"),
    _memory("later-memory-attention", "q = torch.ones(1, 8, 4096, 64)\nq @ q.transpose(-1, -2)", extra=2**27),
    _memory("later-memory-state-dict", "kept = [model().state_dict() for _ in range(5)]\nkept += [torch.empty(2**29)]"),
    _memory("later-memory-dataset", """
from datasets import Dataset
Dataset.from_list([{"text": "x" * 2**20} for _ in range(999)])
"""),
    _memory("later-memory-backward", """
x = torch.ones(2**10, 2**10, requires_grad=True)
for step in range(200):
    x = x * 1.01
x.sum().backward()
"""),
    _memory("later-memory-map", """
from datasets import Dataset
Dataset.from_list([{"n": n} for n in range(4)]).map(lambda row: {"x": np.zeros(2**28)})
"""),
    Scene("later-memory-worker-killed", "out_of_memory", """
import os, signal
from tiny import *
from datasets import Dataset
class Rows(list):
    def __getitem__(self, index):
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)
import torch
for batch in torch.utils.data.DataLoader(Rows(range(16)), num_workers=1, batch_size=2):
    print(batch)
"""),
    Scene("later-memory-shell", "out_of_memory", "ulimit -v 300000\npython -c 'import numpy'\npython -c 'x = b\"0\" * 2**30'\n", shell=True),
    _disk("later-disk-jsonl", "write('disk/rows.jsonl', rows(400) * 9)"),
    _disk("later-disk-safetensors", "import torch\nfrom safetensors.torch import save_file\nsave_file({'a': torch.ones(2**18)}, 'disk/a.safetensors')"),
    _disk("later-disk-pickle", "import pickle\npickle.dump(list(range(2**18)), open('disk/rng.pkl', 'wb'))"),
    _disk("later-disk-csv", "import pandas\npandas.DataFrame({'a': range(99_999)}).to_csv('disk/a.csv')"),
    _disk("later-disk-sqlite", "import sqlite3\nbase = sqlite3.connect('disk/runs.db')\nbase.execute('create table a (b)')\nbase.executemany('insert into a values (?)', (('x' * 999,) for _ in range(999)))\nbase.commit()"),
    _disk("later-disk-make-folders", "for n in range(99):\n    os.makedirs(f'disk/checkpoint-{n}')", size="64k,nr_inodes=9"),
    _disk("later-disk-state", "import torch\nlayer = torch.nn.Linear(512, 512)\ntorch.save({'model': layer.state_dict(), 'step': 5}, 'disk/state.pt')"),
    _disk("later-disk-tar", "import tarfile\nwith tarfile.open('disk/model.tar', 'w') as tar:\n    tar.add('data/model/model.safetensors')"),
    _shell("later-disk-rsync", "set -e\ncat data/model/model.safetensors > disk/a\n"),
    _shell("later-disk-mkdir-python", "python -c \"open('disk/a', 'wb').write(bytes(200000))\"\n"),
    _ranks("later-gloo-gather", "if rank:\n    os._exit(1)\nout = [torch.ones(1) for _ in range(2)]\ndist.all_gather(out, torch.ones(1))", port=29711),
    _ranks("later-gloo-scatter-silent", "if rank:\n    time.sleep(6)\n    os._exit(0)\ndist.broadcast(torch.ones(3), src=1)", port=29712),
    _ranks("later-gloo-three", "if rank == 2:\n    os._exit(1)\nif rank:\n    time.sleep(5)\n    os._exit(0)\ndist.all_reduce(torch.ones(3))", port=29713, ranks=3),
    _ranks("later-store-lost", "store = dist.TCPStore('127.0.0.1', 29799, 2, is_master=False, timeout=timedelta(seconds=1))", port=29714, ranks=1, group=False),
    _net("later-hub-upload-refused", _ONLINE.format(url="http://127.0.0.1:9") + "open('a', 'w').write('a')\nhf_api.HfApi(endpoint=constants.ENDPOINT, token='hf_x').upload_file(path_or_fileobj='a', path_in_repo='a', repo_id='team/model')"),
    _net("later-hub-whoami", _ONLINE.format(url="https://hub.invalid") + "hf_api.HfApi(endpoint=constants.ENDPOINT, token='hf_x').whoami()"),
    _net("later-http-client", "import http.client\nhttp.client.HTTPConnection('127.0.0.1', 9).request('GET', '/')"),
    _net("later-http-cut", _SERVER.format(what="connection.recv(999); connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 99\\r\\n\\r\\nabc'); connection.close()") + "import urllib.request\nurllib.request.urlopen(f'http://127.0.0.1:{port}').read()"),
    _net("later-aiohttp-refused", "import asyncio, aiohttp\nasync def main():\n    async with aiohttp.ClientSession() as session:\n        await session.get('http://127.0.0.1:9')\nasyncio.run(main())"),
    _net("later-openai-refused", "import httpx\nclient = httpx.Client(base_url='http://127.0.0.1:9/v1')\ntry:\n    client.post('/chat/completions')\nexcept httpx.HTTPError as error:\n    raise RuntimeError('the judge does not answer') from error"),
    _net("later-git-pull", "set -e\ngit init -q .\ngit fetch https://127.0.0.1:9/team/a.git\n", shell=True),
    Scene("later-pip-index", "dependency", "pip install --retries 0 --index-url http://127.0.0.1:9/simple some-package-of-ours\n", shell=True),
    _crash("later-segfault-thread", "import ctypes, faulthandler, threading, time\nfaulthandler.enable()\nthreading.Thread(target=ctypes.string_at, args=(0,)).start()\ntime.sleep(3)"),
    _crash("later-segfault-child", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import ctypes; ctypes.string_at(0)'], check=True)"),
    _crash("later-child-raises", "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'raise ValueError(\"the schedule is empty\")'], check=True)"),
    _crash("later-index-error", "losses = []\nprint(losses[-1])"),
    _crash("later-key-error-config", "config = {'lr': 1}\nprint(config['learning_rate'])"),
    _crash("later-float-text", "float('1e-4 # peak')"),
    _crash("later-format", "'{:.2f}'.format(None)"),
    _crash("later-unbound", "def f():\n    if False:\n        best = 1\n    return best\nf()"),
    _crash("later-optimizer-empty", "import torch\ntorch.optim.AdamW([])"),
    _crash("later-scheduler-name", "from transformers import get_scheduler\nget_scheduler('cosinus', None)"),
    _crash("later-batch-not-divisible", "from trl import GRPOConfig\nGRPOConfig('out', use_cpu=True, per_device_train_batch_size=3, num_generations=8)"),
    _crash("later-lora-rank", "from peft import LoraConfig, get_peft_model\nget_peft_model(model(), LoraConfig(r=0, target_modules=['q_proj']))"),
    _crash("later-adapter-shape", """
from peft import LoraConfig, PeftModel, get_peft_model
get_peft_model(model(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained("adapter")
import json, pathlib
path = pathlib.Path("adapter/adapter_config.json")
path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 8}))
PeftModel.from_pretrained(model(), "adapter")
"""),
    _crash("later-view-size", "import torch\ntorch.ones(6).view(4, 2)"),
    _crash("later-device-meta", "import torch\ntorch.ones(2, device='meta').item()"),
    _crash("later-grad-of-int", "import torch\ntorch.ones(2, dtype=torch.long, requires_grad=True)"),
    _crash("later-yaml", "import yaml\nyaml.safe_load('training: {max_steps: 5')"),
    _crash("later-missing-script", "bash train_all.sh\nexit $?\n", shell=True),
    _crash("later-shell-syntax", "if true; then echo a\n", shell=True),
    _crash("later-oumi-no-config", "import sys\nsys.argv = ['oumi', 'train', '-c', 'nothing.yaml']\nfrom oumi.cli.main import run\nrun()"),
    _crash("later-atexit-noise", "import atexit\natexit.register(print, 'flushing the log')\nimport sys, traceback\ntry:\n    raise ValueError('the peak rate is negative')\nexcept ValueError:\n    traceback.print_exc()\nprint('step 3/10 | loss 1.2')\nsys.exit(1)"),
    _torchrun("later-torchrun-both", "crash", "raise ValueError(f'rank {rank}: hidden size 65 is not divisible by 2')"),
    _torchrun("later-torchrun-late", "crash", "if rank == 0:\n    assert os.environ.get('RUN_NAME'), 'RUN_NAME is not set'\ntime.sleep(30)"),
    _torchrun("later-torchrun-abort", "crash", "if rank == 0:\n    os.abort()\ntime.sleep(30)"),
    _torchrun("later-torchrun-terminated", "killed", "if rank == 1:\n    os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)"),
    _torchrun("later-torchrun-memory", "out_of_memory", "if rank == 1:\n    x = [bytearray(2**50)]\ntime.sleep(30)"),
    _killed("later-killed-child", "import subprocess\nsubprocess.run(['bash', '-c', 'kill -9 $$'], check=True)"),
    _killed("later-killed-group", "import os, signal\nprint('epoch 1', flush=True)\nos.killpg(0, signal.SIGTERM)"),
    _killed("later-killed-after-warning", "import os, signal, warnings\nwarnings.warn('flash-attn is not installed, please install it')\nos.kill(os.getpid(), signal.SIGKILL)"),
    _killed("later-interrupted-sleep", "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\nfinally:\n    print('saving')"),
    _killed("later-killed-shell-child", "python - <<'EOF'\nimport os\nprint('{\"step\": 4, \"loss\": 1.0}', flush=True)\nos.kill(os.getpid(), 15)\nEOF\nexit $?\n", shell=True),
    _killed("later-killed-in-loop", "for n in 1 2 3; do python -c 'import os; print(\"run\", flush=True); os.kill(os.getpid(), 9)' || exit $?; done\n", shell=True),
]  # fmt: skip
