"""The rows that are shown, and what is said of data that cannot be read."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.core.errors import InvalidConfig
from flows.core.training_data.preview import DataPreview, DataQuestion
from flows.launcher.oumi.training_data import preview_data
from tests.training_data.data_sets import config

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
COMPLETIONS = {
    "collator_name": "text_completions_only_with_padding",
    "train_target": "ALL_ASSISTANT_TURNS",
}


def preview(folder: Path, content: dict[str, Any], **asked: Any) -> DataPreview:
    return preview_data(DataQuestion(content=content, folder=str(folder), **asked))


def lines(path: Path, *rows: object) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "<|user|>⟦Hi<|assistant|>Ho<|eos|>⟧"),
        ({"assistant_only": True}, "<|user|>Hi<|assistant|>⟦Ho<|eos|>⟧"),
        ({"split": COMPLETIONS}, "<|user|>Hi<|assistant|>⟦Ho<|eos|>⟧"),
        ({"trainer": "HF"}, "<|user|>Hi<|assistant|>Ho<|eos|>"),
        ({"max_length": 3}, "<|user|>⟦Hi⟧"),
    ],
)
def test_a_row_shows_what_the_loss_covers(folder: Path, given: dict[str, Any], text: str) -> None:
    lines(folder / "train.jsonl", CHAT)
    (row,) = preview(folder, config(**given)).rows
    assert row.text == text
    assert row.truncated is ("max_length" in given)


def test_a_pair_shows_both_answers(folder: Path) -> None:
    lines(folder / "train.jsonl", {"prompt": "Hi", "chosen": "Ho", "rejected": "No"})
    answer = preview(folder, config(name="text_dpo_jsonl", trainer="TRL_DPO"))
    (row,) = answer.rows
    assert row.text == "chosen: Hi⟦Ho<|eos|>⟧\nrejected: Hi⟦No<|eos|>⟧"
    assert answer.kind == "preference"


def test_packs_are_trained_as_a_whole_whatever_the_mask_of_their_rows(folder: Path) -> None:
    lines(folder / "train.jsonl", CHAT, CHAT)
    content = config(split={"pack": True}, assistant_only=True, max_length=32)
    answer = preview(folder, content)
    assert answer.kind == "packed"
    chat = "Hi<|assistant|>Ho"
    assert answer.rows[0].text == f"<|user|>⟦{chat}<|eos|><|eos|><|user|>{chat}<|eos|>*18⟧"
    assert "without their masks" in answer.legend


def test_rows_equal_those_that_oumi_builds(folder: Path) -> None:
    from oumi.builders import build_collator_from_config, build_dataset_mixture
    from oumi.core.configs import DatasetSplit

    from flows.launcher.oumi.data_rows import RowBuilder
    from flows.launcher.oumi.data_sets import load_parts
    from flows.launcher.oumi.training_config import build_config, build_parts

    long = {"messages": [{"role": "user", "content": "Hi " * 90}, CHAT["messages"][1]]}
    lines(folder / "train.jsonl", CHAT, long, CHAT)
    content = config(split=COMPLETIONS, max_length=64)
    question = DataQuestion(content=content, folder=str(folder))
    parts = build_parts(build_config(question))
    (part,) = load_parts(parts, question, "train", folder)
    builder = RowBuilder(parts)
    ours = [builder.build(part.dataset, index)[0]["input_ids"] for index in range(3)]

    theirs: Any = build_dataset_mixture(
        parts.config.data, parts.tokenizer, DatasetSplit.TRAIN, seq_length=64
    )
    assert ours == list(theirs["input_ids"])
    collate: Any = build_collator_from_config(parts.config, parts.tokenizer)
    batch = collate([theirs[0], theirs[1]])
    trained = [(labels != -100).sum().item() for labels in batch["labels"]]
    answer = preview(folder, content)
    assert [row.trained_tokens for row in answer.rows] == [*trained, trained[0]]
    assert answer.facts.truncated == 1


def test_only_the_first_rows_of_a_large_file_are_read(folder: Path) -> None:
    lines(folder / "train.jsonl", *[CHAT] * 20_000)
    answer = preview(folder, config(), most_rows=50)
    assert answer.facts.rows_checked == 50
    assert answer.facts.rows_total == pytest.approx(20_000, rel=0.01)
    assert answer.notes == ["The first 50 of about 20,000 rows were read."]


def test_reading_stops_in_time_and_says_so(folder: Path) -> None:
    lines(folder / "train.jsonl", *[CHAT] * 500)
    answer = preview(folder, config(), seconds=0.001)
    assert answer.facts.rows_checked < 500
    assert answer.notes[-1] == "Reading stopped after 0.001 s."


def test_validation_is_compared_with_train(folder: Path) -> None:
    lines(folder / "train.jsonl", CHAT, {"messages": CHAT["messages"] * 2})
    lines(folder / "val.jsonl", CHAT)
    for split in ("train", "validation"):
        answer = preview(folder, config(validation=True), split=split)
        assert (answer.facts.overlap, answer.facts.validation_rows) == (1, 1)


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        ([], {"path": "none.jsonl"}, "none.jsonl' does not exist"),
        ([], {}, "cannot be read"),
        (['{"a": 1}', "{oops"], {}, "train.jsonl, whose line 2 is not JSON"),
        (['{"ask": "a", "say": "b"}'], {}, "its columns are ask, say"),
        (["[1]"], {}, "line 1 is not a JSON object"),
    ],
)
def test_data_that_cannot_be_read_is_named(
    folder: Path, rows: list[str], given: dict[str, Any], said: str
) -> None:
    (folder / "train.jsonl").write_text("\n".join(rows))
    with pytest.raises(InvalidConfig) as error:
        preview(folder, config(**given))
    assert said in str(error.value)


def test_a_wrong_column_is_named_with_the_columns_there_are(folder: Path) -> None:
    lines(folder / "train.jsonl", {"ask": "a", "say": "b"})
    reader: dict[str, Any] = {
        "hf_dataset_path": "mine",
        "prompt_column": "ask",
        "response_column": "answer",
    }
    facts = preview(folder, config(name="PromptResponseDataset", **reader)).facts
    assert facts.failed == 1
    assert facts.first_failure.endswith("there is no column 'answer'; its columns are ask, say")


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    lines(folder / "train.jsonl", CHAT)
    (folder / "empty").mkdir()
    content = config()
    content["model"]["model_name"] = "empty"
    with pytest.raises(InvalidConfig, match=r"the tokenizer of .*empty cannot be loaded"):
        preview(folder, content)


def test_an_answer_with_long_rows_of_any_script_stays_small(folder: Path) -> None:
    text = "语" * 9000
    row = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
    lines(folder / "train.jsonl", *[row] * 10)
    answer = preview(folder, config(max_length=20_000), rows=10)
    assert len(answer.rows) == 10
    assert len(answer.model_dump_json()) < 12_000


def test_images_are_shown_by_their_shapes() -> None:
    import torch

    from flows.launcher.oumi.data_rows import RowBuilder
    from flows.launcher.oumi.training_config import Parts

    class Letters:
        """A tokenizer whose tokens are letters."""

        model_max_length = 99

        def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
            return "".join(map(chr, tokens))

    def collate(rows: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[ord(letter) for letter in rows[0]["conversation_json"]]])
        labels = ids.clone()
        labels[0, :-2] = -100
        return {"input_ids": ids, "labels": labels, "pixel_values": torch.zeros(1, 3, 8, 8)}

    trainer = SimpleNamespace(trainer_type=SimpleNamespace(name="TRL_SFT"))
    builder = RowBuilder(Parts(SimpleNamespace(training=trainer), Letters(), collate, None))
    fed = builder.feed({"conversation_json": "IIIIIIIIIIIIa cat"}, None)
    assert fed.write() == "I*12a c⟦at⟧"
    assert fed.shapes == {"pixel_values": [1, 3, 8, 8]}
