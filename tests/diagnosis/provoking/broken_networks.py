"""Connections that break, between the processes of a training and to the outside."""

from tests.diagnosis.provoking.scene import Scene

_RANKS = """
import os, signal, sys, time
from datetime import timedelta
import torch
import torch.distributed as dist
os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", "{port}"
children = []
rank = 0
for one in range(1, {ranks}):
    pid = os.fork()
    if pid == 0:
        rank = one
        break
    children.append(pid)
if rank:
    os.dup2(os.open("rank.log", os.O_WRONLY | os.O_CREAT), 2)
"""
_GROUP = (
    'dist.init_process_group("gloo", rank=rank, world_size={ranks}, timeout=timedelta(seconds=2))\n'
)


def _ranks(name: str, body: str, *, port: int, ranks: int = 2, group: bool = True) -> Scene:
    head = _RANKS.format(port=port, ranks=ranks) + (_GROUP.format(ranks=ranks) if group else "")
    return Scene(name, "network", head + body)


_ONLINE = """
import huggingface_hub.constants as constants
constants.HF_HUB_OFFLINE = False
constants.ENDPOINT = "{url}"
constants.HUGGINGFACE_CO_URL_TEMPLATE = "{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
import huggingface_hub.hf_api as hf_api
hf_api.api.endpoint = constants.ENDPOINT
"""
_SERVER = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
def serve():
    while True:
        connection, _ = server.accept()
        {what}
threading.Thread(target=serve, daemon=True).start()
"""


def _net(name: str, body: str) -> Scene:
    return Scene(name, "network", body)


_LOST = "https://hub.invalid"
_REFUSED = "http://127.0.0.1:9"

SCENES = [
    _ranks("gloo-peer-killed", """
if rank:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.5)
dist.all_reduce(torch.ones(4))
""", port=29611),
    _ranks("gloo-peer-silent", """
if rank:
    time.sleep(6)
    os._exit(0)
dist.all_reduce(torch.ones(4))
""", port=29612),
    _ranks("gloo-barrier-silent", """
if rank:
    time.sleep(6)
    os._exit(0)
dist.barrier()
""", port=29613),
    _ranks("gloo-monitored-barrier", """
if rank:
    time.sleep(6)
    os._exit(0)
dist.monitored_barrier(timeout=timedelta(seconds=1))
""", port=29614),
    _ranks("gloo-receive-silent", """
if rank:
    time.sleep(6)
    os._exit(0)
dist.recv(torch.ones(4), src=1)
""", port=29615),
    _ranks("gloo-broadcast-peer-killed", """
if rank:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.5)
box = [None]
dist.broadcast_object_list(box, src=1)
""", port=29616),
    _ranks("gloo-ddp-peer-killed", """
if rank:
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
layer = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
for step in range(99):
    time.sleep(0.2)
    layer(torch.ones(2, 4)).sum().backward()
""", port=29617),
    _ranks("rendezvous-incomplete", """
if rank:
    os._exit(0)
dist.init_process_group("gloo", rank=0, world_size=2, timeout=timedelta(seconds=2))
""", port=29618, group=False),
    _ranks("rendezvous-refused", """
if rank == 0:
    os._exit(0) if False else None
dist.init_process_group("gloo", rank=1, world_size=2, timeout=timedelta(seconds=2))
""", port=29619, ranks=1, group=False),
    _ranks("rendezvous-unknown-host", """
os.environ["MASTER_ADDR"] = "node-0.cluster.invalid"
dist.init_process_group("gloo", rank=1, world_size=2, timeout=timedelta(seconds=2))
""", port=29620, ranks=1, group=False),
    _ranks("rendezvous-port-in-use", """
import socket
server = socket.create_server(("", 29621))
dist.TCPStore("127.0.0.1", 29621, 2, is_master=True, timeout=timedelta(seconds=2))
""", port=29621, ranks=1, group=False),
    _ranks("store-key-never-set", """
store = dist.TCPStore("127.0.0.1", 29622, 1, is_master=True, timeout=timedelta(seconds=1))
store.get("ready/1")
""", port=29622, ranks=1, group=False),
    _net("hub-unknown-host", _ONLINE.format(url=_LOST) + "from huggingface_hub import hf_hub_download\nhf_hub_download('team/model', 'config.json')"),
    _net("hub-refused", _ONLINE.format(url=_REFUSED) + "from huggingface_hub import hf_hub_download\nhf_hub_download('team/model', 'config.json')"),
    _net("hub-snapshot-unknown-host", _ONLINE.format(url=_LOST) + "from huggingface_hub import snapshot_download\nsnapshot_download('team/model')"),
    _net("hub-info-refused", _ONLINE.format(url=_REFUSED) + "hf_api.HfApi(endpoint=constants.ENDPOINT).model_info('team/model')"),
    _net("httpx-refused", f"import httpx\nhttpx.get('{_REFUSED}/health')"),
    _net("httpx-unknown-host", f"import httpx\nhttpx.get('{_LOST}')"),
    _net("httpx-read-timeout", _SERVER.format(what="globals().setdefault('kept', []).append(connection)") + "import httpx\nhttpx.get(f'http://127.0.0.1:{port}', timeout=0.5)"),
    _net("httpx-peer-closed", _SERVER.format(what="connection.close()") + "import httpx\nhttpx.get(f'http://127.0.0.1:{port}')"),
    _net("requests-refused", f"import requests\nrequests.post('{_REFUSED}/v1/score', json={{}})"),
    _net("requests-unknown-host", f"import requests\nrequests.get('{_LOST}/rows.jsonl')"),
    _net("requests-read-timeout", _SERVER.format(what="globals().setdefault('kept', []).append(connection)") + "import requests\nrequests.get(f'http://127.0.0.1:{port}', timeout=0.5)"),
    _net("requests-reset", _SERVER.format(what="connection.close()") + "import requests\nrequests.get(f'http://127.0.0.1:{port}')"),
    _net("urllib-unknown-host", f"import urllib.request\nurllib.request.urlopen('{_LOST}')"),
    _net("urllib-refused", f"import urllib.request\nurllib.request.urlopen('{_REFUSED}')"),
    _net("socket-timeout", _SERVER.format(what="globals().setdefault('kept', []).append(connection)") + "socket.create_connection(('127.0.0.1', port), timeout=0.3).recv(1)"),
    _net("reward-server-refused", f"""
import requests
def score(texts):
    try:
        return requests.post("{_REFUSED}", json=texts).json()
    except requests.ConnectionError as error:
        raise RuntimeError("the reward model does not answer") from error
score(["a"])
"""),
    Scene("curl-refused", "network", "set -e\ncurl -fsS http://127.0.0.1:9/rows.jsonl -o rows.jsonl\n", shell=True),
    Scene("curl-unknown-host", "network", "set -e\ncurl -fsS https://data.invalid/rows.jsonl -o rows.jsonl\n", shell=True),
    Scene("git-unknown-host", "network", "set -e\ngit clone https://git.invalid/team/recipes.git\n", shell=True),
    Scene("loader-timed-out", "stalled", """
import time
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        if index == 4:
            time.sleep(30)
        return index
list(DataLoader(Rows(), num_workers=1, timeout=1))
"""),
]  # fmt: skip
