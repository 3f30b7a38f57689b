"""The world of the corpus."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.checks.corpus_world import World, build_world
from tests.checks.hub_server import hub_server


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    home = tmp_path / "home"
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text("hf_good")
    monkeypatch.setenv("HOME", str(home))
    folder = home / "project"
    folder.mkdir()
    build_world(folder)
    async with hub_server() as hub:
        yield World(folder, hub)
