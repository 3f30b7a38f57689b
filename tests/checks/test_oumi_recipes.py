"""Oumi's 525 recipes and mutants of them: our verdict is Oumi's, and none is blocked wrongly."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.core.checks.file_checks import check_files
from flows.core.checks.launch import read_launch
from flows.core.configs.reader import is_job_config, read_config
from flows.core.errors import InvalidConfig
from flows.core.findings import Finding, FindingCode, errors_of
from tests.checks.oumi_recipes import (
    RECIPES,
    mutants,
    recipe_files,
    refused_by_oumi,
    refused_by_us,
    type_of,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not RECIPES.is_dir(), reason="scripts/provision could not fetch Oumi's"),
]
_MUTANTS = 640
_EACH = 8
_STRICTER = re.compile(r"(?:envs|file_mounts)\.\S+ must be str, not a (?:list|mapping)")
"""Oumi 0.9 loads a job config with such a variable or mount, which no launcher can set."""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that recipes name their configs from."""
    monkeypatch.chdir(RECIPES.parent)
    return RECIPES.parent


def test_the_verdict_on_each_recipe_is_oumis(capsys: pytest.CaptureFixture[str]) -> None:
    wrong: list[str] = []
    checked = 0
    for path in recipe_files():
        try:
            config = read_config(path)
        except InvalidConfig:
            continue  # texts for another program
        checked += 1
        config_type = type_of(config.data)
        ours, theirs = refused_by_us(config, config_type), refused_by_oumi(path, config_type)
        if bool(ours) != bool(theirs):
            wrong.append(f"{path}: ours {ours}, Oumi's {theirs[:300]!r}")
    with capsys.disabled():
        print(f"\nrecipes: {len(wrong)} of {checked} verdicts differ from Oumi's")
    assert "\n".join(wrong) == ""
    assert checked >= 520


def test_the_verdict_on_each_mutant_is_oumis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = recipe_files()
    chosen = files[:: len(files) // (_MUTANTS // _EACH)][: _MUTANTS // _EACH]
    wrong: list[str] = []
    refused = 0
    for seed, path in enumerate(chosen):
        data = read_config(path).data
        config_type = type_of(data)
        for name, text in mutants(data, config_type, seed):
            mutant = tmp_path / "mutant.yaml"
            mutant.write_text(text)
            try:
                ours = refused_by_us(read_config(mutant), config_type)
            except InvalidConfig as error:
                ours = [error.what]
            theirs = refused_by_oumi(mutant, config_type)
            refused += bool(theirs)
            if bool(ours) != bool(theirs) and not _STRICTER.fullmatch(ours[0] if ours else ""):
                wrong.append(f"{path.name}, {name}: ours {ours}, Oumi's {theirs[:300]!r}")
    with capsys.disabled():
        count = len(chosen) * _EACH
        print(f"\nmutants: {len(wrong)} of {count} verdicts differ; Oumi refuses {refused}")
    assert "\n".join(wrong) == ""
    assert len(chosen) * _EACH == _MUTANTS


def test_no_recipe_is_blocked_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "oumi"
    shutil.copytree(RECIPES, folder / "configs")
    home = tmp_path / "home"
    for name in (".netrc", ".cache/huggingface/token"):  # which most job configs mount
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(folder)
    wrong: list[str] = []
    blocked = 0
    for path in sorted((folder / "configs").rglob("*.yaml")):
        config = read_config(path)
        gpus = None if is_job_config(config.data) else 8
        launch = read_launch(config, client_cwd=str(folder), gpus=gpus)
        errors = errors_of(check_files(launch).findings)
        blocked += bool(errors)
        unfounded = [one for one in errors if not _is_true(one, config.data)]
        wrong += [f"{path.relative_to(folder)}: {one.code} {one.text[:300]}" for one in unfounded]
    with capsys.disabled():
        print(f"\nrecipes: {len(wrong)} false findings; {blocked} lack a file or are no configs")
    assert "\n".join(wrong) == ""


def _is_true(finding: Finding, data: Mapping[str, Any]) -> bool:
    """Whether a finding that blocks is right, by a look that is not the check's own."""
    match finding.code:
        case FindingCode.PATH_NOT_FOUND | FindingCode.MOUNT_SOURCE_MISSING:
            (named,) = re.findall(r"(/\S+) does not exist", finding.message)
            return not Path(named).exists()
        case FindingCode.UNKNOWN_KEY | FindingCode.MISSING_KEY:
            # Files of other programs, which Oumi refuses, too.
            return "training" not in data and "resources" not in data and "engine" not in data
        case FindingCode.MISSING_USER:
            return not data.get("user")
        case _:
            return False
