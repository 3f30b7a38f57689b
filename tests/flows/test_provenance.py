"""The record of what a job ran on differs whenever its parts differ, and is kept once."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from flows.core.provenance import Provenance, Source, keep, load, provenance


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Git repository with a data file that is ignored."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "code.py").write_text("print(1)\n")
    (folder / ".gitignore").write_text("*.jsonl\n")
    (folder / "data.jsonl").write_text('{"text": "a"}\n')
    _git(folder, "init", "--initial-branch=work")
    _git(folder, "add", ".")
    _git(folder, "commit", "--message=Begin")
    return folder


CONFIG: dict[str, Any] = {
    "data": {"train": {"datasets": [{"dataset_path": "data.jsonl"}]}},
    "training": {"output_dir": "out"},
}


def of(folder: Path, config: dict[str, Any] = CONFIG) -> Provenance:
    return provenance([Source(config, folder)], client_cwd=str(folder), seed=7)


def test_a_clean_folder_is_told_by_its_commit(folder: Path) -> None:
    found = of(folder)

    assert found.code is not None
    assert len(found.code.commit) == 40
    assert (found.code.branch, found.code.diff, found.code.untracked) == ("work", None, [])
    assert found.packages["oumi"] == version("oumi")
    assert found.seed == 7


def test_what_is_not_committed_is_kept(folder: Path) -> None:
    (folder / "code.py").write_text("print(2)\n")
    (folder / "new.py").write_text("")

    code = of(folder).code

    assert code is not None
    assert code.diff is not None
    assert "+print(2)" in code.diff
    assert code.untracked == ["new.py"]
    assert of(folder).code == code


def test_data_that_changed_has_another_fingerprint(folder: Path) -> None:
    before = of(folder)
    (folder / "data.jsonl").write_text('{"text": "b"}\n')

    after = of(folder)

    assert set(before.data) == set(after.data) == {"data.jsonl"}
    assert before.data != after.data


def test_what_is_installed_is_told_apart(folder: Path) -> None:
    found = of(folder)

    assert int(found.installed.partition(":")[0]) > len(found.packages)
    assert found.packages["torch.cuda"].replace(".", "").isdecimal()


def test_a_config_in_another_folder_names_its_data_there(folder: Path) -> None:
    below = folder / "below"
    below.mkdir()
    (below / "data.jsonl").write_text("[]")
    recipe = below / "train.yaml"
    recipe.write_text("{}")
    further = Source(CONFIG, below, str(recipe))

    found = provenance([Source(CONFIG, folder), further], client_cwd=str(folder), seed=None)

    assert set(found.data) == {"data.jsonl", str(below / "data.jsonl"), str(recipe)}
    assert found.data["data.jsonl"] != found.data[str(below / "data.jsonl")]


def test_a_large_file_is_told_by_size_and_samples(folder: Path) -> None:
    data = folder / "data.jsonl"
    os.truncate(data, 100_000_000)  # which takes no room
    before = of(folder).data
    with data.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"y")

    assert before["data.jsonl"].startswith("sampled ")
    assert before["data.jsonl"].endswith("of 100000000 bytes")
    assert of(folder).data != before


def test_outputs_are_no_inputs(folder: Path) -> None:
    (folder / "out").mkdir()
    assert "out" not in of(folder).data


def test_a_folder_outside_git_has_no_code_version(tmp_path: Path) -> None:
    assert of(tmp_path).code is None


def test_odd_values_are_passed_over(folder: Path) -> None:
    odd = {"a": "nul\0", "b": "~no-user-of-this-name/x", "c": "x" * 5000, "d": ["", None, 3]}
    assert of(folder, odd).data == {}


def test_a_record_is_kept_once_under_its_hash_and_read_again(folder: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    found = of(folder)

    sha256 = keep(found, records)

    assert keep(of(folder), records) == sha256
    assert [path.name for path in records.iterdir()] == [f"{sha256}.json"]
    assert (records / f"{sha256}.json").stat().st_mode & 0o777 == 0o600
    assert load(sha256, records) == found
    assert load("0" * 64, records) is None
