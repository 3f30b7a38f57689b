"""A preview in a real process of its own, which imports Oumi."""

import json
import os
from pathlib import Path

import pytest

from flows.core.training_data.preview import DataQuestion
from flows.launcher.oumi.data_previews import DataPreviews
from tests.training_data.data_sets import config

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


@pytest.mark.slow
async def test_rows_without_a_class_of_oumis_are_shown_as_trl_prepares_them(folder: Path) -> None:
    rows = [{"prompt": CHAT[:1], "completion": CHAT[1:]}] * 50
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    content = config()
    content["data"]["train"]["datasets"] = [
        {"dataset_name": "json", "split": "train", "dataset_kwargs": {"data_files": "rows.jsonl"}}
    ]
    question = DataQuestion(content=content, folder=str(folder), rows=1, most_rows=20)
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    answer = await DataPreviews(environ, loading_seconds=200).preview(question)
    (row,) = answer.rows
    assert row.text == "<|user|>Hi<|assistant|>⟦Ho<|eos|>⟧"
    assert (answer.facts.rows_checked, answer.facts.duplicates) == (20, 19)
    assert answer.notes == ["The first 20 rows were read; there are more."]
