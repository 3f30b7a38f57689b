"""Data sets with one seeded defect each, and data sets without any, for the tiny tokenizer."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from datasets import Dataset

SEEDS: Final = range(5)
_TRAIN = "text_sft_jsonl"
_COMPLETIONS: Final = {
    "collator_name": "text_completions_only_with_padding",
    "train_target": "ALL_ASSISTANT_TURNS",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A training config and the files it reads.

    Attributes:
        code, severity: The finding of its defect; empty: it has none.
    """

    name: str
    config: dict[str, Any]
    files: dict[str, list[Row] | str]
    code: str = ""
    severity: str = "warning"


def chat(rng: random.Random, *, words: int = 4, answer: str | None = None) -> Row:
    """A question and its answer, almost surely unlike any other."""
    question = " ".join(str(rng.randrange(10**6)) for _ in range(words))
    return {
        "messages": [
            {"role": "user", "content": f"What follows {question}?"},
            {"role": "assistant", "content": str(rng.random()) if answer is None else answer},
        ]
    }


def chats(rng: random.Random, count: int = 0, **given: Any) -> list[Row]:
    return [chat(rng, **given) for _ in range(count or rng.randrange(24, 40))]


def config(
    *,
    split: dict[str, Any] | None = None,
    validation: bool = False,
    name: str = _TRAIN,
    path: str = "train.jsonl",
    trainer: str = "TRL_SFT",
    max_length: int = 256,
    **kwargs: Any,
) -> dict[str, Any]:
    dataset = {"dataset_name": name, "dataset_path": path, "dataset_kwargs": kwargs}
    data: dict[str, Any] = {"train": {"datasets": [dataset], **(split or {})}}
    if validation:
        data["validation"] = {"datasets": [dataset | {"dataset_path": "val.jsonl"}]}
    return {
        "model": {"model_name": "model", "model_max_length": max_length},
        "data": data,
        "training": {"trainer_type": trainer, "output_dir": "out"},
    }


def _no_room_for_answers(rng: random.Random) -> Case:
    rows = chats(rng, words=rng.randrange(60, 90))
    given = config(split=_COMPLETIONS, max_length=64)
    return Case("no room for answers", given, {"train.jsonl": rows}, "no_label_left", "error")


def _wrong_template(rng: random.Random) -> Case:
    split = {
        "collator_name": "text_completions_only_with_padding",
        "collator_kwargs": {"response_template": f"### Reply {rng.randrange(9)}:"},
    }
    files: Any = {"train.jsonl": chats(rng)}
    return Case("wrong template", config(split=split), files, "no_label_left", "error")


def _no_labels(rng: random.Random) -> Case:
    split = rng.choice([{}, {"collator_name": "text_with_padding"}])
    given = config(split=split, trainer=rng.choice(["HF", "OUMI"]))
    return Case("no labels", given, {"train.jsonl": chats(rng)}, "no_label_left", "error")


def _some_without_room(rng: random.Random) -> Case:
    rows = chats(rng, 30) + chats(rng, rng.randrange(3, 7), words=80)
    rng.shuffle(rows)
    given = config(split=_COMPLETIONS, max_length=100)
    return Case("some without room", given, {"train.jsonl": rows}, "no_label_left")


def _truncated(rng: random.Random) -> Case:
    rows = chats(rng, 20) + chats(rng, rng.randrange(8, 30), words=80)
    rng.shuffle(rows)
    return Case("truncated", config(max_length=100), {"train.jsonl": rows}, "much_truncated")


def _empty_answers(rng: random.Random) -> Case:
    rows = chats(rng)
    rows[rng.randrange(len(rows))] = chat(rng, answer=rng.choice(["", " ", "\n"]))
    return Case("empty answers", config(), {"train.jsonl": rows}, "empty_answers")


def _duplicates(rng: random.Random) -> Case:
    rows = chats(rng)
    copies = [json.loads(json.dumps(row)) for row in rng.choices(rows, k=len(rows) // 4)]
    for copy in copies:  # white space and further keys do not make a row another one
        copy["messages"][1]["content"] += rng.choice(["", " ", "\n"])
    rows += copies
    rng.shuffle(rows)
    return Case("duplicates", config(), {"train.jsonl": rows}, "data_duplicates")


def _overlap(rng: random.Random) -> Case:
    rows = chats(rng)
    held = [*chats(rng, 20), *rng.choices(rows, k=rng.randrange(1, 4))]
    rng.shuffle(held)
    files: Any = {"train.jsonl": rows, "val.jsonl": held}
    return Case("overlap", config(validation=True), files, "data_overlap")


def _role_order(rng: random.Random) -> Case:
    rows = chats(rng)
    bad: list[Row] = rows[rng.randrange(len(rows))]["messages"]
    match rng.randrange(4):
        case 0:
            bad.reverse()
        case 1:
            bad.insert(0, {"role": "user", "content": "Hello?"})
        case 2:
            bad.append({"role": "user", "content": "And then?"})
        case _:
            bad.insert(1, {"role": "system", "content": "Be kind."})
    return Case("role order", config(), {"train.jsonl": rows}, "role_order")


def _equal_pairs(rng: random.Random) -> Case:
    rows = _pairs(rng)
    row = rng.choice(rows)
    row["rejected"] = row["chosen"]
    given = config(name="text_dpo_jsonl", trainer="TRL_DPO")
    return Case("equal pairs", given, {"train.jsonl": rows}, "equal_pairs")


def _bad_line(rng: random.Random) -> Case:
    lines = [json.dumps(row) for row in chats(rng, 40)]
    bad = rng.choice(["{oops", "[1, 2]", '"text"', "", '{"messages": NaN}'])
    lines.insert(rng.randrange(25, 38), bad)
    text = "\n".join(lines) + "\n"
    return Case("bad line", config(), {"train.jsonl": text}, "bad_data_file", "error")


def _bad_row(rng: random.Random) -> Case:
    rows = chats(rng, 40)
    bad = [{"text": "Hi"}, {"messages": "Hi"}, {"messages": [{"role": "bot", "content": "Hi"}]}]
    rows.insert(rng.randrange(25, 38), rng.choice(bad))
    return Case("bad row", config(), {"train.jsonl": rows}, "bad_data_row", "error")


_DEFECTS: Final[list[Callable[[random.Random], Case]]] = [
    _no_room_for_answers,
    _wrong_template,
    _no_labels,
    _some_without_room,
    _truncated,
    _empty_answers,
    _duplicates,
    _overlap,
    _role_order,
    _equal_pairs,
    _bad_line,
    _bad_row,
]


def defects() -> Iterator[Case]:
    for make in _DEFECTS:
        for seed in SEEDS:
            yield make(random.Random(seed))


def _pairs(rng: random.Random) -> list[Row]:
    return [
        {"prompt": f"<|user|>{rng.random()}", "chosen": f"{rng.random()}", "rejected": "No."}
        for _ in range(rng.randrange(24, 40))
    ]


def _columns(rng: random.Random) -> list[Row]:
    return [{"ask": str(rng.random()), "say": str(rng.random())} for _ in range(30)]


def _long_talk(rng: random.Random) -> Row:
    row = chat(rng)
    turns: list[Row] = row["messages"]
    turns.insert(0, {"role": "system", "content": "Be brief."})
    for _ in range(rng.randrange(1, 4)):
        turns += chat(rng)["messages"]
    return row


def _clean_of(rng: random.Random) -> Iterator[Case]:
    rows = chats(rng)
    files: Any = {"train.jsonl": rows}
    # A few repetitions and a few long rows are in every good data set.
    few: Any = {"train.jsonl": [*rows, rows[0], rows[1], chat(rng, words=90)]}
    yield Case("plain", config(), few)
    yield Case("assistant only", config(assistant_only=True), files)
    yield Case("completions", config(split=_COMPLETIONS), files)
    yield Case("packed", config(split={"pack": True}), files)
    yield Case("validation", config(validation=True), {**files, "val.jsonl": chats(rng)})
    yield Case("talks", config(max_length=512), {"train.jsonl": [_long_talk(rng) for _ in rows]})
    labels = config(trainer="HF", assistant_only=True)
    yield Case("labels for HF", labels, files)
    alpaca: list[Row] = [
        {"instruction": f"Add to {rng.random()}", "input": str(rng.random()), "output": "Done."}
        for _ in rows
    ]
    yield Case("alpaca", config(), {"train.jsonl": alpaca})
    dpo = config(name="text_dpo_jsonl", trainer="TRL_DPO")
    yield Case("pairs", dpo, {"train.jsonl": _pairs(rng)})
    feedback: list[Row] = [
        {"prompt": str(rng.random()), "completion": str(rng.random()), "label": rng.random() < 0.5}
        for _ in rows
    ]
    kto = config(name="trl-lib/kto-mix-14k", trainer="TRL_KTO")
    yield Case("feedback", kto, {"train.jsonl": feedback})
    named: dict[str, Any] = {
        "hf_dataset_path": "mine",
        "prompt_column": "ask",
        "response_column": "say",
    }
    reader: dict[str, Any] = {"name": "PromptResponseDataset", **named}
    yield Case("parquet", config(path="train.parquet", **reader), {"train.parquet": _columns(rng)})
    yield Case("saved", config(path="saved", **reader), {"saved": _columns(rng)})


def clean() -> Iterator[Case]:
    for seed in SEEDS:
        yield from _clean_of(random.Random(1000 + seed))


def write(case: Case, folder: Path) -> Path:
    """Write the files and the config of a case; return the config's path."""
    for name, content in case.files.items():
        path = folder / name
        if isinstance(content, str):
            path.write_text(content)
        elif path.suffix == ".parquet":
            pd.DataFrame(content).to_parquet(path)
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        else:
            Dataset.from_list(content).save_to_disk(str(path))
    path = folder / "train.yaml"
    path.write_text(json.dumps(case.config))
    return path
