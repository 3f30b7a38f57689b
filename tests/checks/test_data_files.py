"""Rows of data files are refused where Oumi's own readers refuse them, all of them at once."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from oumi.datasets import TextSftJsonLinesDataset

from flows.core.checks.data_files import Format, Limits, Rows, format_of, wrong_content
from flows.core.checks.launch import read_launch
from flows.core.checks.recipe import Dataset
from flows.core.configs.reader import read_config
from flows.machine_checks.data_files import DataFileCheck

OK = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
WHOLE = Limits(lines=10**9, bytes=10**8)


def changed(content: str) -> bytes:
    return OK.replace(b'"a"', content.encode())


FILES: dict[str, bytes] = {
    "whole": OK * 3,
    "no end of line": OK + OK.strip(),
    "Windows lines": OK.replace(b"\n", b"\r\n") * 2,
    "old Mac lines": OK.strip() + b"\r" + OK,
    "byte order mark": b"\xef\xbb\xbf" + OK * 2,
    "byte order mark inside": OK + b"\xef\xbb\xbf" + OK,
    "empty line at the end": OK + b"\n",
    "empty line inside": OK + b"\n" + OK,
    "empty line at the start": b"\n" + OK,
    "spaces": OK + b"   \n" + OK,
    "spaces before": b"  " + OK,
    "NaN": OK + OK.replace(b"}\n", b', "score": NaN}\n'),
    "Infinity": OK.replace(b"}\n", b', "score": -Infinity}\n'),
    "too large": OK.replace(b"}\n", b', "score": 1e999}\n'),
    "long number": OK.replace(b"}\n", b', "id": 12345678901234567890123}\n'),
    "null": OK + b"null\n",
    "list": OK + b"[1]\n",
    "single quotes": OK + b"{'messages': []}\n",
    "comma": OK.replace(b"}\n", b"},\n"),
    "tab in text": changed('"a\tb"'),
    "null character": changed('"a\0b"'),
    "line separator": changed('"a\u2028b"'),
    "lone surrogate": changed('"\\ud800"'),
    "Latin-1": OK + b'{"messages": [{"role": "user", "content": "\xfc"}]}\n',
    "null content": OK + changed("null"),
    "number content": OK + changed("3"),
    "parts": OK + changed('[{"type": "text", "content": "a"}]'),
    "unknown role": OK + OK.replace(b'"user"', b'"human"'),
    "no messages": OK + b'{"text": "a"}\n',
    "cut": OK + OK[:40],
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_refused_exactly_where_oumis_reader_refuses_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(FILES[name])
    try:
        data: Any = TextSftJsonLinesDataset(dataset_path=path)
        for index in range(len(data)):
            data.conversation(index)
        refused = ""
    except (ValueError, UnicodeDecodeError) as error:
        refused = str(error)
    found = wrong_content(path, Format(Rows.SFT, is_strict=True), WHOLE)
    assert bool(found) == bool(refused), (found, refused)


@pytest.mark.parametrize("name", ["whole", "empty line at the end", "empty line inside", "NaN",
                                  "byte order mark", "tab in text", "single quotes", "comma",
                                  "Latin-1", "spaces", "Windows lines"])  # fmt: skip
def test_a_file_for_pandas_is_refused_where_pandas_refuses_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(FILES[name])
    try:
        pd.read_json(path, lines=True)
        refused = ""
    except (ValueError, UnicodeDecodeError) as error:
        refused = str(error)
    assert bool(wrong_content(path, Format(), WHOLE)) == bool(refused), refused


def test_every_wrong_line_is_listed_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [OK.decode()] * 200
    for number in (41, 91, 151):
        lines[number - 1] = "broken\n"
    lines[169] = "\n"
    path.write_text("".join(lines))
    wanted = Format(Rows.SFT, is_strict=True)
    assert wrong_content(path, wanted) == ""
    assert wrong_content(path, wanted, WHOLE) == (
        "of which 4 lines are wrong: 41, 91, 151 (not JSON); 170 (empty)"
    )
    path.write_text("broken\n" * 1000)
    found = wrong_content(path, wanted, WHOLE)
    assert found.startswith("of which 1,000 lines are wrong: 1, 2, 3")
    assert found.endswith("; and 980 more")


@pytest.mark.parametrize(
    ("name", "ending", "is_wrong"),
    [("text_sft_jsonl", "csv", True), ("text_sft", "txt", True), ("text_sft", "parquet", True),
     ("text_sft", "JSONL", False), ("text_sft", "jsonl", False), ("vl_sft", "ndjson", False),
     ("text_sft", "JSON", True)],
)  # fmt: skip
def test_an_ending_that_the_data_set_does_not_read_is_wrong(
    tmp_path: Path, name: str, ending: str, is_wrong: bool
) -> None:
    path = tmp_path / f"data.{ending}"
    path.write_bytes(OK * 2)
    wanted = format_of(Dataset("data.train.datasets[0]", name, str(path), "train", {}))
    assert bool(wrong_content(path, wanted)) == is_wrong


def test_a_json_list_is_checked_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    rows = [json.loads(OK)] * 5
    path.write_text(json.dumps(rows))
    wanted = Format(Rows.SFT, is_strict=True)
    assert wrong_content(path, wanted, WHOLE) == ""
    path.write_text(json.dumps([*rows, {"messages": [{"role": "user", "content": None}]}]))
    assert "whose row 6 is not a conversation" in wrong_content(path, wanted, WHOLE)
    path.write_text("[]")
    assert wrong_content(path, wanted, WHOLE) == "which has no rows"


async def test_the_worker_reads_whole_files_of_a_launch(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(OK * 5000 + b"broken\n" + OK + b"\n")
    config = tmp_path / "train.yaml"
    config.write_text(
        "model: {model_name: ./m}\ndata: {train: {datasets: [{dataset_name: text_sft, "
        "dataset_path: data.jsonl}]}}\n"
    )
    launch = read_launch(read_config(config), client_cwd=str(tmp_path))
    check = DataFileCheck()
    await check.check(launch)
    message = launch.findings[-1].message
    assert message.endswith("of which 2 lines are wrong: 5001 (not JSON); 5003 (empty)")
    launch.forget_findings()
    (tmp_path / "data.jsonl").write_bytes(OK)
    await check.check(launch)
    assert launch.findings == []


def test_a_large_file_is_read_within_the_time_limit(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(OK * 50_000 + b"broken\n")
    assert wrong_content(path, Format(Rows.SFT, is_strict=True), WHOLE._replace(until=0.0)) == ""
