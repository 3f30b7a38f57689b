"""Launchers under test."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.core.settings import Settings
from flows.launcher.oumi_launcher import OumiLauncher


@pytest.fixture(scope="session")
def oumi_launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OumiLauncher]:
    """The real launcher, with a local cloud of its own. Imports Oumi: 10 to 20 s."""
    from oumi import launcher as oumi
    from oumi.launcher.launcher import LAUNCHER

    from flows.launcher.local import oumi_cloud as local_cloud

    # Oumi builds a cloud once in a process, and ours reads its settings when it is built.
    built = vars(LAUNCHER)["_clouds"]
    before = built.pop("local", None)
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("contract") / "home with space"
        patch.setenv("OUMI_FLOWS_HOME", str(home))
        patch.setenv("OUMI_FLOWS_LOCAL_SLOTS", "2")
        local_cloud.register()
        oumi.get_cloud("local")
        yield OumiLauncher(Settings())
    del built["local"]
    if before is not None:
        built["local"] = before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where jobs of a test run."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def fake_modal(
    oumi_launcher: OumiLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A package in the place of Modal's, and a home of the worker's for one test."""
    from tests.support import fake_cloud

    folder = str(Path(fake_cloud.__file__).parent / "fake_modal")
    monkeypatch.setenv(fake_cloud.FOLDER_ENV, str(tmp_path / "modal"))
    monkeypatch.setenv("FAKE_MODAL", folder)
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("modal")
    for name in [name for name in sys.modules if name.partition(".")[0] == "modal"]:
        del sys.modules[name]
