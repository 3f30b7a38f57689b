"""OUMI_FLOWS_HOME is private, whichever process creates it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp.client import Client

from flows.core.configs.reader import save_snapshot
from flows.core.private_files import make_private
from flows.core.provenance import Provenance, keep
from flows.core.settings import Settings
from flows.launcher.job_environment import with_job_environment
from mcp_server.engine.files import EngineFiles
from tests.mcp_server.calls import ok

JOB = "name: tiny\nresources: {cloud: local}\nrun: echo\n"

RECORD = Provenance(host="", python="", packages={}, code=None, data={})
MAKERS: dict[str, Callable[[Settings], object]] = {
    "configs": lambda settings: save_snapshot("a: 1\n", settings.snapshots_dir),
    "hooks": lambda settings: with_job_environment(JOB, key="key", settings=settings),
    "records": lambda settings: keep(RECORD, settings.records_dir),
    "engine": lambda settings: EngineFiles(settings).prepare(),
    "docs": lambda settings: make_private(settings.docs_dir),
}


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(home: Path) -> list[Path]:
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    return [folder for folder in folders if folder.stat().st_mode & 0o077]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_whatever_makes_it_makes_it_for_its_owner_alone(
    tmp_path: Path, make: Callable[[Settings], object]
) -> None:
    settings = Settings(home=tmp_path / "parent" / "home")
    make(settings)
    assert list(settings.home.iterdir())
    assert open_to_others(settings.home) == []


async def test_a_submission_to_a_server_elsewhere_makes_it_for_its_owner_alone(
    client: Client, config: Path, settings: Settings
) -> None:
    given = {"config_path": str(config), "client_cwd": str(config.parent), "dry_run": False}
    await ok(client, "run_oumi_job", **given)
    assert (settings.snapshots_dir.is_dir(), open_to_others(settings.home)) == (True, [])
