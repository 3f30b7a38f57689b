"""What the checks take for granted of Oumi and SkyPilot, against the installed packages."""

import json
import os
import subprocess
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from oumi.builders import inference_engines
from oumi.core.registry import REGISTRY, RegistryType
from oumi.core.types.conversation import Conversation
from oumi.launcher.clients.sky_client import SkyClient
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.core.checks.data_files import ROWS_OF, format_of, wrong_content
from flows.core.checks.job import read_job
from flows.core.checks.needs import API_KEYS
from flows.core.checks.notes import Notes
from flows.core.checks.recipe import Dataset
from flows.core.checks.sync import Sync
from flows.core.checks.target import SKY_DISK_GB, nearest_gpu
from flows.core.configs.clouds import cloud_kinds
from flows.launcher.oumi.registry import OumiRegistry, Registered
from flows.machine_checks.hardware import TORCH


def test_the_clouds_are_those_of_oumis_registry() -> None:
    registry: Any = REGISTRY
    assert set(registry.get_all(RegistryType.CLOUD)) == set(cloud_kinds())
    assert {cloud.value for cloud in SkyClient.SupportedClouds} == {
        name for name, kind in cloud_kinds().items() if kind.is_sky
    }


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


def test_the_versions_of_torch_are_those_oumi_asks_for() -> None:
    (asked,) = [need for need in map(Requirement, requires("oumi") or []) if need.name == "torch"]
    oldest, too_new = (".".join(map(str, bound)) for bound in TORCH)
    assert asked.specifier == SpecifierSet(f">={oldest},<{too_new}.0")


ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"messages": []},
    {"messages": [{"role": "human", "content": "a"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": 3}]},
    {"messages": [{"role": "user", "content": {"a": 1}}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
    {"messages": [{"role": "user", "content": ""}]},
    {"messages": "a"},
    {"conversation": {"messages": [{"role": "user", "content": "a"}]}},
    {"conversation": [{"role": "user", "content": "a"}]},
    {"conversations": [{"from": "human", "value": "a"}]},
    {"instruction": "a", "input": "b", "output": "c"},
    {"instruction": "a", "output": "c"},
    {"text": "a"},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"prompt": "a", "completion": "b"},
    {},
]


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize(
    ("name", "chosen"),
    [("text_sft_jsonl", None), ("text_sft", "alpaca"), ("text_sft", "oumi"), ("vl_sft", None)],
)
def test_rows_are_refused_that_oumis_data_set_refuses(
    tmp_path: Path, name: str, chosen: str | None, row: dict[str, Any]
) -> None:
    kwargs = {"format": chosen} if chosen else {}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    registry: Any = REGISTRY
    dataset_class = registry.get_dataset(name)
    try:
        if name == "vl_sft":
            Conversation.model_validate(row)
        else:
            dataset_class(dataset_path=str(file), **kwargs).conversation(0)
        is_refused = False
    except ValueError:
        is_refused = True
    rows = format_of(Dataset("data.train.datasets[0]", name, str(file), "train", kwargs))
    assert bool(wrong_content(file, rows)) == is_refused


def test_names_are_told_from_the_data_sets_that_read_them() -> None:
    registry: Any = REGISTRY
    assert all(registry.get_dataset(name) for name in ROWS_OF)


def test_the_disk_of_a_cluster_is_skypilots() -> None:
    from sky import resources

    assert resources.DEFAULT_DISK_SIZE_GB == SKY_DISK_GB


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("A100-80", "A100-80GB"), ("h-100", "H100"), ("RTX-4090", "RTX4090"), ("A5500", ""),
     ("GB200", ""), ("A5000", ""), ("A800", ""), ("MI300X", ""), ("A101", "")],
)  # fmt: skip
def test_a_gpu_of_another_number_is_no_misspelt_one(name: str, nearest: str) -> None:
    assert nearest_gpu(name) == nearest


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
