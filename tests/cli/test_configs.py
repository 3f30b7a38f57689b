"""`configs` and `config`: the catalogue from a terminal."""

from pathlib import Path

import pytest

from mcp_server.catalog.catalog import RECIPES_DIR
from tests.catalog.archive_server import CONFIG, archive_server, status, tar_gz
from tests.cli.conftest import Terminal

PATH = "starter/llama3.2/1b_sft_lora.yaml"
TEXT = (RECIPES_DIR / "llama3.2/1b_sft_lora.yaml").read_text()


def test_configs_are_listed_the_best_first(terminal: Terminal) -> None:
    done = terminal("configs", "llama 3.2", "lora", "1b", "--limit", "2")
    assert done.code == 0
    head, first, _ = done.out.splitlines()
    assert head.split() == ["PATH", "TASK", "TECHNIQUE", "MODEL", "GPU"]
    assert first.split()[:3] == [PATH, "sft", "lora"]
    assert "the first 2 follow" in done.err
    assert not terminal.engine.brought_up


def test_json_is_what_the_tool_answers_with(terminal: Terminal) -> None:
    done = terminal("configs", "--content", "lora_r: 16", "--limit", "1", "--json")
    assert len(done.json["configs"]) == 1 < done.json["total"]
    done = terminal("config", PATH, "--json")
    assert done.json["content"] == TEXT


def test_nothing_found_is_no_failure(terminal: Terminal) -> None:
    done = terminal("configs", "unheardof")
    assert (done.code, done.out) == (0, "")
    assert "nothing has unheardof" in done.err


def test_a_config_is_written_as_it_is(terminal: Terminal) -> None:
    assert terminal("config", PATH).out == TEXT


def test_a_config_is_copied_to_a_new_file_only(terminal: Terminal, tmp_path: Path) -> None:
    mine = tmp_path / "train.yaml"
    assert terminal("config", PATH, "--copy-to", str(mine)).code == 0
    assert mine.read_text() == TEXT
    mine.write_text("changed")
    done = terminal("config", PATH, "--copy-to", str(mine))
    assert (done.code, mine.read_text()) == (6, "changed")
    assert "CONFLICT" in done.err
    done = terminal("config", PATH, "--copy-to", str(tmp_path / "no/such/folder.yaml"))
    assert "cannot be written" in done.err


def test_a_path_that_is_not_there_says_which_is_near(terminal: Terminal) -> None:
    done = terminal("config", "starter/llama3.2/1b_sft_lorra.yaml")
    assert done.code == 4
    assert f"Did you mean {PATH}" in done.err


def test_oumis_own_are_fetched_when_asked_for_and_a_failure_is_told(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with archive_server(tar_gz({"configs/recipes/acme/train.yaml": CONFIG})) as server:
        monkeypatch.setenv("OUMI_FLOWS_CONFIGS_URL", server.url)
        assert "are not here" in terminal("configs", "acme").err
        assert server.ranges == []
        done = terminal("configs", "acme", "--fetch", "--json")
        assert [row["path"] for row in done.json["configs"]] == ["recipes/acme/train.yaml"]
        server.answers = [status(404)]
        done = terminal("configs", "acme", "--fetch")
        assert done.code == 4
        assert "404" in done.err
