"""Programs that succeed, though their logs look bad in places."""

from tests.diagnosis.provoking.scene import Scene


def _fine(name: str, body: str, *, shell: bool = False) -> Scene:
    return Scene(name, "", body if shell else "from tiny import *\n" + body, shell)


SCENES = [
    _fine("fine-training", "from datasets import Dataset\nsft(Dataset.from_list(rows(16))).train()"),
    _fine("fine-lora", """
from datasets import Dataset
from peft import LoraConfig
import trl
args = trl.SFTConfig("out", use_cpu=True, report_to=[], max_steps=4, logging_steps=1, save_strategy="no")
trl.SFTTrainer(model(), args, train_dataset=Dataset.from_list(rows(16)), processing_class=tokenizer(), peft_config=LoraConfig(target_modules=["q_proj"])).train()
"""),
    _fine("fine-optional-import", """
import logging, traceback
try:
    import flash_attn
except ImportError:
    traceback.print_exc()
    print("flash-attn is not installed: sdpa is used")
"""),
    _fine("fine-smaller-batch", """
import traceback
for batch in (8, 4):
    try:
        if batch == 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB")
        print("batch", batch, "fits")
    except RuntimeError:
        traceback.print_exc()
"""),
    _fine("fine-retried-download", """
import httpx, logging
logging.basicConfig()
for attempt in range(3):
    try:
        if attempt < 2:
            httpx.get("http://127.0.0.1:9")
    except httpx.ConnectError:
        logging.exception("Retry %d of 3", attempt + 1)
print("downloaded")
"""),
    _fine("fine-skipped-rows", """
import json, traceback
for line in ['{"a": 1}', '{"a": ']:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        traceback.print_exc()
        print("row skipped")
"""),
    _fine("fine-map-and-split", """
from datasets import load_dataset
write("rows.jsonl", rows(32))
data = load_dataset("json", data_files="rows.jsonl", split="train").map(lambda row: {"n": len(row["messages"])}, num_proc=2)
print(data.train_test_split(0.2))
"""),
    _fine("fine-ignored-exception", """
class Pool:
    def __del__(self):
        raise AttributeError("'NoneType' object has no attribute 'close'")
Pool()
print("done")
"""),
    _fine("fine-shell", "pip --version\ngrep error /dev/null || echo 'no error found'\n", shell=True),
    _fine("fine-grpo", """
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
args = GRPOConfig("out", use_cpu=True, report_to=[], max_steps=2, logging_steps=1, per_device_train_batch_size=4, num_generations=4, max_completion_length=8, save_strategy="no")
GRPOTrainer(MODEL, lambda completions, **more: [float(len(set(text))) for text in completions], args=args, train_dataset=Dataset.from_list([{"prompt": "1 + 1"}] * 8)).train()
"""),
]  # fmt: skip
