"""Programs with faults of their own, and programs that something ended."""

from tests.diagnosis.provoking.scene import Scene

_TORCHRUN = "python -m torch.distributed.run --standalone --nproc_per_node 2 rank.py\n"


def _crash(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "crash", body if shell else "from tiny import *\n" + body, shell)


def _torchrun(name: str, kind: str, body: str) -> Scene:
    head = "cat > rank.py <<'EOF'\nimport os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
    return Scene(name, kind, f"{head}{body}\nEOF\n{_TORCHRUN}", shell=True)


def _killed(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "killed", body, shell)


SCENES = [
    _crash("segfault-ctypes", "import ctypes\nctypes.string_at(0)"),
    _crash("segfault-faulthandler", "import ctypes, faulthandler\nfaulthandler.enable()\nctypes.string_at(0)"),
    _crash("segfault-in-shell", "python -c 'import ctypes; ctypes.string_at(0)'\nexit $?\n", shell=True),
    _crash("abort", "import faulthandler, os\nfaulthandler.enable()\nos.abort()"),
    _crash("abort-in-shell", "python -c 'import os; os.abort()'\nexit $?\n", shell=True),
    _crash("bus-error", """
import mmap, os, faulthandler
faulthandler.enable()
file = open("rows.bin", "w+b")
file.truncate(8192)
view = mmap.mmap(file.fileno(), 8192)
os.ftruncate(file.fileno(), 0)
view[4096]
"""),
    _crash("illegal-instruction", "import faulthandler, os, signal\nfaulthandler.enable()\nos.kill(os.getpid(), signal.SIGILL)"),
    _crash("floating-point-exception", "import faulthandler, os, signal\nfaulthandler.enable()\nos.kill(os.getpid(), signal.SIGFPE)"),
    _crash("recursion", "def f(n):\n    return f(n + 1)\nf(0)"),
    _crash("attribute", "args = None\nargs.learning_rate"),
    _crash("type-error", "from transformers import TrainingArguments\nTrainingArguments('out', use_cpu=True, evaluation_strategy='steps')"),
    _crash("assertion", "batch, world = 6, 4\nassert batch % world == 0, f'batch {batch} is not divisible by {world} processes'"),
    _crash("assertion-without-message", "assert model() is None"),
    _crash("value-error", "from transformers import TrainingArguments\nTrainingArguments('out', use_cpu=True, eval_strategy='steps', load_best_model_at_end=True, save_strategy='epoch')"),
    _crash("not-implemented", "class Policy:\n    def score(self):\n        raise NotImplementedError\nPolicy().score()"),
    _crash("zero-division", "steps = []\nloss = sum(steps) / len(steps)"),
    _crash("shape-mismatch", "import torch\ntorch.ones(2, 3) @ torch.ones(2, 3)"),
    _crash("dtype-mismatch", "import torch\ntorch.nn.Linear(4, 4).half()(torch.ones(2, 4))"),
    _crash("dtype-attention", "import torch\nF = torch.nn.functional\nF.scaled_dot_product_attention(torch.ones(1, 2, 4, 8), torch.ones(1, 2, 4, 8).bfloat16(), torch.ones(1, 2, 4, 8))"),
    _crash("state-dict-mismatch", "import torch\ntorch.nn.Linear(4, 4).load_state_dict(torch.nn.Linear(4, 8).state_dict())"),
    _crash("state-dict-keys", "import torch\ntorch.nn.Linear(4, 4).load_state_dict({'kernel': torch.ones(4, 4)})"),
    _crash("no-gradient", "import torch\ntorch.ones(2).sum().backward()"),
    _crash("backward-twice", "import torch\nx = torch.ones(2, requires_grad=True)\nloss = (x * x).sum()\nloss.backward()\nloss.backward()"),
    _crash("in-place", "import torch\nx = torch.ones(2, requires_grad=True)\nx += 1"),
    _crash("lora-target-missing", """
from peft import LoraConfig, get_peft_model
get_peft_model(model(), LoraConfig(target_modules=["query_key_value"]))
"""),
    _crash("checkpoint-missing", """
from datasets import Dataset
sft(Dataset.from_list(rows(8))).train(resume_from_checkpoint="out/checkpoint-500")
"""),
    _crash("no-checkpoint-to-resume", """
from datasets import Dataset
sft(Dataset.from_list(rows(8))).train(resume_from_checkpoint=True)
"""),
    _crash("reward-function-raises", """
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
def reward(completions, **more):
    return [float(text.split("=")[1]) for text in completions]
args = GRPOConfig("out", use_cpu=True, report_to=[], max_steps=2, per_device_train_batch_size=4, num_generations=4, max_completion_length=8)
GRPOTrainer(MODEL, reward, args=args, train_dataset=Dataset.from_list([{"prompt": "1 + 1"}] * 8)).train()
"""),
    _crash("callback-raises", """
from datasets import Dataset
from transformers import TrainerCallback
class Stop(TrainerCallback):
    def on_log(self, args, state, control, logs, **more):
        self.best = min(self.best, logs["loss"])
trainer = sft(Dataset.from_list(rows(8)))
trainer.add_callback(Stop())
trainer.train()
"""),
    _crash("chained-then-cleanup", """
def train():
    try:
        raise ValueError("the schedule needs max_steps > 0, but max_steps is -1")
    finally:
        (lambda: None)()
try:
    train()
except ValueError as error:
    raise SystemExit(f"Error: {error}")
"""),
    _crash("raised-while-closing", """
class Writer:
    def close(self):
        raise RuntimeError("the writer is closed")
writer = Writer()
try:
    {}["optimizer"]
finally:
    writer.close()
"""),
    _crash("noise-after-the-error", """
import atexit
class Pool:
    def __del__(self):
        raise AttributeError("'NoneType' object has no attribute 'terminate'")
pool = Pool()
def train():
    raise RuntimeError("the scheduler and the optimizer do not fit each other")
import sys, traceback
try:
    train()
except RuntimeError:
    traceback.print_exc()
pool = None
sys.exit(1)
"""),
    _crash("thread-raises", """
import threading, os
def log():
    raise ValueError("cannot parse the metrics")
thread = threading.Thread(target=log)
thread.start()
thread.join()
os._exit(1)
"""),
    _crash("syntax-error", "exec('for step in range(3)\\n    pass')"),
    _crash("unknown-argument", "python -m torch.distributed.run --nprocs 2 train.py\n", shell=True),
    _crash("unknown-key-error", "environment = {}\nenvironment['OUTPUT_DIR']"),
    _crash("set-device-none", "import torch\ntorch.ones(2, device='gpu:0')"),
    _crash("logged-and-raised", """
import logging
logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
try:
    int("3e-4x")
except ValueError:
    logging.exception("Training failed")
    raise
"""),
    _crash("many-lines-message", "raise RuntimeError('weights do not fit:\\n  layers.0.weight: (4, 4) and (4, 8)\\n  layers.1.weight: (4, 4) and (4, 8)')"),
    _crash("exception-group", "raise ExceptionGroup('2 evaluations failed', [ValueError('task gsm9k is unknown'), TypeError('x')])"),
    _crash("exit-code-alone", "import sys\nprint('step 10/100')\nsys.exit(3)"),
    _crash("shell-bad-file", "set -e\npython missing_script.py\n", shell=True),
    _crash("shell-unset-variable", "set -eu\noumi train -c \"$CONFIG_FILE\"\n", shell=True),
    _crash("shell-no-permission", "touch train.sh\n./train.sh\n", shell=True),
    _crash("oumi-unknown-key", """
import sys
write("train.yaml", ["training: {learning_rat: 0.1}", "model: {model_name: data/model}"])
sys.argv = ["oumi", "train", "-c", "train.yaml"]
from oumi.cli.main import run
run()
"""),
    _torchrun("torchrun-one-rank-raises", "crash", """
if rank == 1:
    raise ValueError("rank 1 has no share of the data: 3 files for 4 ranks")
time.sleep(30)"""),
    _torchrun("torchrun-all-ranks-raise", "crash", "raise KeyError('optimizer_state')"),
    _torchrun("torchrun-segfault", "crash", """
import ctypes
if rank == 1:
    ctypes.string_at(0)
time.sleep(30)"""),
    _torchrun("torchrun-killed", "killed", """
if rank == 0:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(30)"""),
    _torchrun("torchrun-consequence", "crash", """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
if rank == 1:
    raise RuntimeError("the learning rate schedule has 0 steps")
dist.all_reduce(torch.ones(2))"""),
    _torchrun("torchrun-bad-row", "data_error", """
import json
if rank == 1:
    print("reading rows.jsonl")
    json.loads('{"text": ')
time.sleep(30)"""),
    _killed("killed-by-9", "import os, signal\nprint('step 5/100', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"),
    _killed("killed-by-15", "import os, signal\nprint('step 5/100', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)"),
    _killed("killed-interrupt", "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)"),
    _killed("killed-child-in-shell", "python -c 'import os; os.kill(os.getpid(), 9)'\nexit $?\n", shell=True),
    _killed("killed-terminated-in-shell", "bash -c 'kill -15 $$; sleep 3'\nexit $?\n", shell=True),
    _killed("killed-while-training", """
from tiny import *
from datasets import Dataset
from transformers import TrainerCallback
import os, signal
class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
trainer = sft(Dataset.from_list(rows(16)))
trainer.add_callback(Kill())
trainer.train()
"""),
    _killed("killed-by-time-limit", "timeout -s KILL 1 python -c 'import time; print(\"step 1\", flush=True); time.sleep(9)'\nexit $?\n", shell=True),
]  # fmt: skip
