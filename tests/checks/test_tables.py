"""What the checks take for granted of Oumi and SkyPilot, against the installed packages."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from oumi.builders import inference_engines
from oumi.core.registry import REGISTRY, RegistryType
from oumi.launcher.clients.sky_client import SkyClient

from flows.launcher.oumi_registry import OumiRegistry, Registered
from flows.preflight.job import read_job
from flows.preflight.needs import API_KEYS
from flows.preflight.notes import Notes
from flows.preflight.sync import Sync
from flows.preflight.target import CLOUDS, SKY_CLOUDS, SKY_DISK_GB


def test_the_clouds_are_those_of_oumis_registry() -> None:
    registry: Any = REGISTRY
    assert set(registry.get_all(RegistryType.CLOUD)) == set(CLOUDS)
    assert {cloud.value for cloud in SkyClient.SupportedClouds} == set(SKY_CLOUDS)


def test_the_keys_of_remote_engines_are_those_oumi_reads() -> None:
    found: dict[str, str] = {}
    for engine_type, engine in inference_engines.ENGINE_MAP.items():
        name = getattr(engine, "api_key_env_varname", None)
        if isinstance(name, property):
            name = name.fget(engine.__new__(engine)) if name.fget else None
        if isinstance(name, str):
            found[engine_type.name] = name
    assert {engine: API_KEYS[engine] for engine in found if engine in API_KEYS} == {
        engine: name for engine, name in found.items() if engine in API_KEYS
    }
    assert set(API_KEYS) <= set(found)


def test_the_disk_of_a_cluster_is_skypilots() -> None:
    from sky import resources

    assert resources.DEFAULT_DISK_SIZE_GB == SKY_DISK_GB


def test_names_are_looked_up_where_oumi_looks() -> None:
    registry = OumiRegistry()
    assert registry.has_dataset("text_sft_jsonl", None)
    assert "gsm8k" in registry.names(Registered.REWARD_FUNCTION)
    assert "count_letters" in registry.names(Registered.EVALUATION_FUNCTION)


FILES = [
    "a.txt",
    "b.log",
    "data/c.txt",
    "data/deep/d.txt",
    "out/e.txt",
    "keep/out/f.txt",
    "x.tmp",
    ".hidden",
]
IGNORES = [
    "*.log\n/out\n",
    "data\n",
    "data/*.txt\n# a.txt\n",
    "deep\n*.tmp\n",
    "/data/deep\n\n",
    "out/\n",
    "*\n",
]


@pytest.mark.parametrize("ignore", IGNORES)
@pytest.mark.parametrize("name", [".skyignore", ".gitignore"])
def test_what_is_left_out_is_what_skypilot_leaves_out(
    tmp_path: Path, name: str, ignore: str
) -> None:
    from sky.data import storage_utils

    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / name).write_text(ignore)
    git = {**os.environ, "HOME": str(tmp_path.parent)}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, env=git)
    excluded = [entry.rstrip("/") for entry in storage_utils.get_excluded_files(str(tmp_path))]
    theirs = {
        file for file in FILES if any(f"{file}/".startswith(f"{entry}/") for entry in excluded)
    }
    data = {"resources": {"cloud": "gcp"}, "run": "x"}
    job = read_job("job.yaml", data, cloud="", client_cwd=tmp_path, notes=Notes("job.yaml", None))
    sync = Sync(job)
    assert {file for file in FILES if sync.leaves_out(tmp_path / file)} == theirs
