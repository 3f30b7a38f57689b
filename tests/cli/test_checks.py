"""The commands that check a config."""

from pathlib import Path

import pytest

from flows.core.errors import EngineUnavailable
from tests.cli.conftest import Terminal

BAD = "model: {model_name: org/m}\ntraining:\n  max_stepz: 3\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "good.yaml").write_text("model: {model_name: org/m}\n")
    return tmp_path


@pytest.fixture(autouse=True)
def no_engine(terminal: Terminal) -> None:
    terminal.engine.error = EngineUnavailable("No worker took it up", "Start one")


def test_an_invalid_config_is_told_key_by_key_with_its_line(
    terminal: Terminal, folder: Path
) -> None:
    done = terminal("validate", "bad.yaml")
    assert done.code == 2
    assert "ERROR    unknown_key: unknown key training.max_stepz; did you mean" in done.out
    assert f"At: {folder}/bad.yaml:3" in done.out


def test_a_valid_config_ends_well_and_says_that_oumi_was_not_asked(terminal: Terminal) -> None:
    done = terminal("validate", "good.yaml", "--type", "training")
    assert done.code == 0
    assert "WARNING  oumi_not_asked: " in done.out


def test_the_type_is_told_by_the_keys_where_it_is_left_out(terminal: Terminal) -> None:
    Path("job.yaml").write_text("resources: {cloud: gcp}\nrun: echo\n")
    assert terminal("validate", "job.yaml", "--json").json["task_type"] == "job"
    Path("infer.yaml").write_text("model: {model_name: a}\nengine: VLLM\n")
    assert terminal("validate", "infer.yaml", "--json").json["task_type"] == "inference"


def test_what_blocks_a_launch_ends_with_an_exit_code_of_its_own(terminal: Terminal) -> None:
    done = terminal("check", "bad.yaml")
    assert done.code == 2
    assert done.out.startswith("Blocked: ")
    done = terminal("check", "good.yaml", "--cloud", "gcp")
    assert done.code == 0
    assert "first: on gcp this config runs inside a job config, so this is advice" in done.out
    assert "as docs/clouds.md shows" in done.out
    done = terminal("check", "good.yaml", "--json")
    assert (done.code, done.json["blocking"]) == (0, False)


def test_a_config_that_is_not_there_is_an_error(terminal: Terminal) -> None:
    done = terminal("check", "no.yaml")
    assert done.code == 4
    assert "CONFIG_NOT_FOUND" in done.err
