"""Oumi is loaded once and completely, before any thread uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import REPOSITORY

REGISTRY = """
import time
class RegistryType:
    CLOUD = "cloud"
class Registry:
    filled = False
    clouds = {}
    def get_all(self, kind):
        if not self.filled:
            self.filled = True
            import oumi.launcher
            time.sleep(0.2)
            self.clouds["slurm"] = object
            import module_of_a_person
        return dict(self.clouds)
REGISTRY = Registry()
"""
LAUNCHER = """
from oumi.core.registry import REGISTRY
REGISTRY.get_all("cloud")
def up(): ...
"""
LOCAL_CLOUD = """
def register():
    from oumi.core.registry import REGISTRY
    REGISTRY.clouds["local"] = object
"""
ASK = """
import sys, threading, types
sys.path.insert(0, sys.argv[1])
import flows.launcher.local
local_cloud = types.ModuleType("flows.launcher.local.oumi_cloud")
exec(open(sys.argv[1] + "/local_cloud.py").read(), vars(local_cloud))
sys.modules["flows.launcher.local.oumi_cloud"] = flows.launcher.local.oumi_cloud = local_cloud
from flows.launcher.loading import load_oumi
def ask():
    load_oumi()
    from oumi.core.registry import REGISTRY
    # In one write: a line of several may have those of other threads in it.
    sys.stdout.write(" ".join(sorted(REGISTRY.get_all("cloud"))) + "\\n")
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.fixture
def slow_oumi(tmp_path: Path) -> Path:
    """An Oumi whose registry says that it is filled before it is, as Oumi 0.9's does."""
    for package in ("oumi", "oumi/core", "oumi/core/configs", "oumi/launcher"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "oumi/core/registry.py").write_text(REGISTRY)
    (tmp_path / "oumi/launcher/__init__.py").write_text(LAUNCHER)
    (tmp_path / "local_cloud.py").write_text(LOCAL_CLOUD)
    # What OUMI_EXTRA_DEPS_FILE names is imported while the registry is filled.
    (tmp_path / "module_of_a_person.py").write_text("from oumi.launcher import up")
    return tmp_path


def test_nobody_sees_a_registry_or_a_launcher_that_is_half_there(slow_oumi: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(slow_oumi)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout.splitlines() == ["local slurm"] * 8
