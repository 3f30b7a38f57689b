"""What the scenes share: a tiny model, its data, and limits. Copied into each scene's folder."""

import json
import resource
from pathlib import Path

MODEL = "data/model"


def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL)


def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


def rows(count=16):
    lines = Path("data/train.jsonl").read_text().splitlines()[:count]
    return [json.loads(line) for line in lines]


def write(path, lines):
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path(path).write_text("\n".join(text) + "\n")
    return path


def sft(data, held=None, **more):
    from trl import SFTConfig, SFTTrainer

    settings = {"max_steps": 6, "logging_steps": 2, "per_device_train_batch_size": 4, **more}
    args = SFTConfig("out", use_cpu=True, report_to=[], save_strategy="no", **settings)
    return SFTTrainer(
        model(), args, train_dataset=data, eval_dataset=held, processing_class=tokenizer()
    )


def limit_memory(extra_bytes):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
