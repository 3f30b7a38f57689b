"""Data that a training cannot read, or cannot train on."""

from tests.diagnosis.provoking.scene import Scene

_HEAD = "from tiny import *\nfrom datasets import Dataset, load_dataset\n"
_OUMI = """
import sys
from tiny import *
write("rows.jsonl", {rows})
write("train.yaml", ['''
model: {{model_name: data/model, model_max_length: 128, torch_dtype_str: float32, device_map: cpu}}
data: {{train: {{datasets: [{{dataset_name: {name}, dataset_path: rows.jsonl}}]}}}}
training:
  trainer_type: TRL_SFT
  output_dir: out
  max_steps: 2
  per_device_train_batch_size: 4
  enable_tensorboard: false
  trainer_kwargs: {{use_cpu: true}}
'''])
sys.argv = ["oumi", "train", "-c", "train.yaml"]
from oumi.cli.main import run
run()
"""


def _oumi(
    name: str, rows: str, *, kind: str = "data_error", dataset: str = "text_sft_jsonl"
) -> Scene:
    return Scene(name, kind, _OUMI.format(rows=rows, name=dataset))


def _data(name: str, body: str) -> Scene:
    return Scene(name, "data_error", _HEAD + body)


_LOAD = """
load_dataset("json", data_files="rows.jsonl", split="train")
"""

SCENES = [
    _data(
        "jsonl-cut-row", 'write("rows.jsonl", [*rows(7), "{\\"messages\\": [", *rows(3)])' + _LOAD
    ),
    _data("jsonl-text-row", 'write("rows.jsonl", [*rows(2), "not json at all"])' + _LOAD),
    _data("jsonl-single-quotes", "write('rows.jsonl', [*rows(5), \"{'messages': 1}\"])" + _LOAD),
    _data("jsonl-empty", 'write("rows.jsonl", [""])' + _LOAD),
    _data("jsonl-missing", _LOAD),
    _data("jsonl-missing-glob", 'load_dataset("json", data_files="shards/*.jsonl", split="train")'),
    _data(
        "text-bad-utf8",
        """
open("rows.txt", "wb").write(b'caf\\xe9\\n' * 5)
load_dataset("text", data_files="rows.txt", split="train")
""",
    ),
    _data(
        "jsonl-extra-column",
        """
write("a.jsonl", [{"text": "a"}] * 3)
write("b.jsonl", [{"text": "a", "source": "web"}] * 3)
load_dataset("json", data_files=["a.jsonl", "b.jsonl"], split="train")
""",
    ),
    _data(
        "csv-ragged",
        """
write("rows.csv", ["text,label", "a,1", "b,2,3,4", "c,3"])
load_dataset("csv", data_files="rows.csv", split="train")
""",
    ),
    _data(
        "parquet-not-parquet",
        """
write("rows.parquet", ["not parquet", "x" * 100])
load_dataset("parquet", data_files="rows.parquet", split="train")
""",
    ),
    _data(
        "parquet-cut",
        """
Dataset.from_list(rows(64)).to_parquet("rows.parquet")
raw = open("rows.parquet", "rb").read()
open("rows.parquet", "wb").write(raw[: len(raw) // 2])
load_dataset("parquet", data_files="rows.parquet", split="train")
""",
    ),
    _data(
        "unknown-split",
        """
write("rows.jsonl", rows(4))
load_dataset("json", data_files="rows.jsonl", split="validation")
""",
    ),
    _data(
        "split-beyond-the-end",
        """
write("rows.jsonl", rows(4))
load_dataset("json", data_files="rows.jsonl", split="train").select(range(10))
""",
    ),
    _data(
        "saved-dataset-missing",
        """
from datasets import load_from_disk
load_from_disk("prepared/train")
""",
    ),
    _data("sft-wrong-column", 'sft(Dataset.from_list([{"conversation": "hi"}] * 8)).train()'),
    _data("sft-messages-not-a-list", 'sft(Dataset.from_list([{"messages": "hi"}] * 8)).train()'),
    _data(
        "sft-message-without-role",
        """
sft(Dataset.from_list([{"messages": [{"speaker": "user", "text": "hi"}]}] * 8)).train()
""",
    ),
    _data("sft-none-text", 'sft(Dataset.from_list([{"text": "a"}, {"text": None}] * 4)).train()'),
    _data("sft-number-text", 'sft(Dataset.from_list([{"text": n} for n in range(8)])).train()'),
    _data("sft-empty-data", "sft(Dataset.from_list([])).train()"),
    _data(
        "template-roles-must-alternate",
        """
tok = tokenizer()
tok.chat_template = '''{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{{ m['content'] }}{% endfor %}'''
twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
data = Dataset.from_list([{"messages": row["messages"]} for row in rows(6)] + [{"messages": twice}])
data.map(lambda row: {"text": tok.apply_chat_template(row["messages"], tokenize=False)})
""",
    ),
    _data(
        "no-chat-template",
        """
tok = tokenizer()
tok.chat_template = None
Dataset.from_list(rows(4)).map(lambda row: tok.apply_chat_template(row["messages"], return_dict=True))
""",
    ),
    _data(
        "map-key-error",
        """
def tokenize(row):
    return tokenizer()(row["prompt"] + row["completion"])

Dataset.from_list([{"prompt": "a", "response": "b"}] * 4).map(tokenize)
""",
    ),
    _data(
        "map-in-processes",
        """
def tokenize(row):
    if row["id"] == 5:
        raise ValueError(f"row {row['id']}: the answer is empty")
    return {"length": len(row["text"])}

Dataset.from_list([{"id": n, "text": "a" * n} for n in range(8)]).map(tokenize, num_proc=2)
""",
    ),
    _data(
        "map-none-plus-text",
        """
data = Dataset.from_list([{"question": "a", "answer": "b"}, {"question": "c", "answer": None}])
data.map(lambda row: {"text": row["question"] + row["answer"]})
""",
    ),
    _data(
        "map-lengths-differ",
        """
data = Dataset.from_list([{"text": "a b c"}] * 4)
data.map(lambda batch: {"words": batch["text"][0].split()}, batched=True)
""",
    ),
    _data("remove-unknown-column", 'Dataset.from_list([{"text": "a"}]).remove_columns(["label"])'),
    _data(
        "rename-unknown-column",
        'Dataset.from_list([{"text": "a"}]).rename_column("label", "labels")',
    ),
    _data(
        "cast-to-class-label",
        """
from datasets import ClassLabel
Dataset.from_list([{"label": "spam"}, {"label": "offer"}]).cast_column("label", ClassLabel(names=["spam", "ham"]))
""",
    ),
    _data(
        "collator-no-padding",
        """
from torch.utils.data import DataLoader
from transformers import default_data_collator
data = [{"input_ids": [1, 2, 3]}, {"input_ids": [1, 2]}]
next(iter(DataLoader(data, batch_size=2, collate_fn=default_data_collator)))
""",
    ),
    _data(
        "collator-uneven-tensors",
        """
import torch
from torch.utils.data import DataLoader
data = [torch.zeros(4), torch.zeros(5)]
next(iter(DataLoader(data, batch_size=2)))
""",
    ),
    _data(
        "collator-none",
        """
from torch.utils.data import DataLoader
next(iter(DataLoader([{"image": None}, {"image": None}], batch_size=2)))
""",
    ),
    _data(
        "collator-excessive-nesting",
        """
tok = tokenizer()
from transformers import DataCollatorForLanguageModeling
DataCollatorForLanguageModeling(tok, mlm=False)([{"input_ids": [1, 2], "labels": [[1], [2, 3]]}, {"input_ids": [1], "labels": [[1]]}])
""",
    ),
    _data(
        "worker-meets-bad-row",
        """
import json
from torch.utils.data import DataLoader, Dataset as Rows

class Lines(Rows):
    lines = [json.dumps({"text": "a"})] * 5 + ['{"text": ']

    def __len__(self):
        return len(self.lines)

    def __getitem__(self, index):
        return json.loads(self.lines[index])["text"]

list(DataLoader(Lines(), batch_size=2, num_workers=2))
""",
    ),
    _data(
        "worker-missing-image",
        """
from PIL import Image
from torch.utils.data import DataLoader, Dataset as Rows

class Images(Rows):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return Image.open(f"images/{index:05d}.png").size

list(DataLoader(Images(), num_workers=1))
""",
    ),
    _data(
        "image-not-an-image",
        """
from PIL import Image
write("cat.png", ["<html>404</html>"])
Dataset.from_list([{"path": "cat.png"}]).map(lambda row: {"size": Image.open(row["path"]).size})
""",
    ),
    _data(
        "token-outside-vocabulary",
        """
import torch
model()(input_ids=torch.tensor([[1, 2, 99_999]]))
""",
    ),
    _data(
        "label-out-of-range",
        """
import torch
torch.nn.functional.cross_entropy(torch.randn(4, 3), torch.tensor([0, 1, 2, 3]))
""",
    ),
    _data(
        "labels-of-another-length",
        """
import torch
torch.nn.functional.cross_entropy(torch.randn(4, 3), torch.tensor([0, 1, 2]))
""",
    ),
    _data(
        "streaming-bad-row",
        """
write("rows.jsonl", [*rows(3), '{"messages": }'])
for row in load_dataset("json", data_files="rows.jsonl", split="train", streaming=True):
    pass
""",
    ),
    _data(
        "dpo-without-rejected",
        """
from trl import DPOConfig, DPOTrainer
args = DPOConfig("out", use_cpu=True, report_to=[], max_steps=2)
data = Dataset.from_list([{"prompt": "a", "chosen": "b"}] * 8)
DPOTrainer(model(), args=args, train_dataset=data, processing_class=tokenizer()).train()
""",
    ),
    _data(
        "json-config-of-rows",
        """
import json
write("rows.json", ['[{"text": "a"},', '{"text": "b"},', "]"])
Dataset.from_list(json.load(open("rows.json")))
""",
    ),
    _data(
        "gzip-not-gzip",
        """
import gzip, json
write("rows.jsonl.gz", rows(3))
Dataset.from_list([json.loads(line) for line in gzip.open("rows.jsonl.gz")])
""",
    ),
    _oumi("oumi-bad-row", "[*rows(6), '{\"messages\": [', *rows(2)]"),
    _oumi("oumi-wrong-column", "[{'text': 'hi'}] * 8"),
    _oumi("oumi-message-without-content", "[*rows(4), {'messages': [{'role': 'user'}]}]"),
    _oumi("oumi-unknown-role", "[{'messages': [{'role': 'boss', 'content': 'hi'}]}] * 8"),
    _oumi("oumi-unknown-dataset", "rows(8)", kind="hub_access", dataset="text_sft_jsonlines"),
]
