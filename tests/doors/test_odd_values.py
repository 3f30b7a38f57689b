"""No value of an argument, a config or a stream is answered with an internal error."""

import asyncio
import copy
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from mcp.client import Client

from flows.core.errors import EngineUnavailable, InvalidArgument
from flows.core.settings import Settings
from mcp_server.server import Options, build_server, make_parts
from mcp_server.services.schedules.values import Times, When

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COMMAND = "import sys; from oumi_flows import main; sys.exit(main())"


@pytest.mark.parametrize("zone", ["localtime", "Factory", "posixrules", "right/UTC", "", "../UTC"])
def test_a_time_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(InvalidArgument, match="is unknown"):
        When.of(Times(cron="0 2 * * *", timezone=zone), now=NOW)


@pytest.mark.parametrize(
    "cron",
    ["* * * * * *", "0 0 1 1 * 0 2030", "@reboot", "@every 5m", "R * * * *", "0 H(0-5) * * *",
     "0 0 * * r", "", "0 2 * *", "h/5 * * * *"],
)  # fmt: skip
def test_a_cron_expression_of_other_than_five_fields_is_refused(cron: str) -> None:
    with pytest.raises(InvalidArgument, match="is not five fields"):
        When.of(Times(cron=cron), now=NOW)


@pytest.mark.parametrize(
    "cron", ["0 2 * * *", " 0  2 * * * ", "*/5 0-3 1,15 JAN-MAR THU", "@daily", "@Hourly"]
)
def test_five_fields_and_their_names_are_taken(cron: str) -> None:
    assert When.of(Times(cron=cron), now=NOW).cron == cron


@pytest.mark.parametrize(
    ("command", "closing", "code"),
    [
        ("--help", ">&-", 0),
        ("mcp --bad", "2>&-", 2),
        ("mcp --bad", ">&- 2>&- <&-", 2),
        ("--help", "| true", 141),
        ("mcp --bad", "2>&1 | true", 2),
        ("--help", "> /dev/full", 6),
    ],
)
def test_a_command_without_its_streams_ends_quietly(
    command: str, closing: str, code: int, tmp_path: Path
) -> None:
    if closing == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    script = f'set -o pipefail; "$0" -P -c "$1" {command} {closing}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, COMMAND],
        env={**os.environ, "OUMI_FLOWS_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "INTERNAL" not in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert done.returncode == code, said


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    settings = Settings(home=tmp_path / "home", engine_timeout_seconds=1)
    async with Client(build_server(make_parts(settings, no_engine), Options())) as connected:
        yield connected


VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, 3, -1, -1.5, 1e308, float("nan"), float("inf"), 10**30, "", " ", "x", "0",
    "${x}", "${oc.env:HOME}", "a\nb\n", "~no-such-person/x", "/dev/zero", "../..", "x" * 3000,
    [], [1], [[]], [None], [{}], {}, {1: 2}, {None: 1}, {True: "x"}, {"": 1}, {"a.b": 1},
    {"a": {"b": "c"}}, {"x": [{"y": None}]}, ["a", 2],
)  # fmt: skip

TRAIN: Final[dict[str, Any]] = yaml.safe_load("""
model: {model_name: org/model, torch_dtype_str: bfloat16, adapter_model: x, model_kwargs: {a: 1}}
data:
  train:
    datasets:
    - {dataset_name: text_sft, dataset_path: d.jsonl, split: train, dataset_kwargs: {a: b}}
    mixture_strategy: first_exhausted
training: {trainer_type: TRL_SFT, output_dir: out, max_steps: 3, per_device_train_batch_size: 2,
  learning_rate: 1.0e-4, save_steps: 2, seed: 3, use_peft: true, mixed_precision_dtype: BF16}
peft: {q_lora: false, lora_r: 8, lora_target_modules: [q_proj]}
fsdp: {enable_fsdp: false}
""")
JOB: Final[dict[str, Any]] = yaml.safe_load("""
name: j
user: u
num_nodes: 1
working_dir: .
resources: {cloud: gcp, region: r, accelerators: "A100:1", cpus: "4+", memory: "16+",
  use_spot: false, disk_size: 256}
envs: {A: b, N: 1}
file_mounts: {/a: ./b}
storage_mounts: {/d: {source: s3://y, store: s3}}
setup: pip install oumi
run: |
  set -e
  oumi train -c train.yaml --training.max_steps 3
""")
PIPELINE: Final[dict[str, Any]] = yaml.safe_load("""
name: p
steps:
- {name: a, config_path: train.yaml, command: train, overrides: {training.max_steps: 1}}
- {name: b, config_path: train.yaml, needs: [a], when: "${a.metrics.loss} < 3", envs: {A: b},
   cloud: local, max_retries: 1, timeout_seconds: 60, each: [1, 2]}
""")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each place of a config."""
    if at:
        yield at
    entries = value.items() if isinstance(value, dict) else ()
    for key, entry in enumerate(value) if isinstance(value, list) else entries:
        yield from places(entry, (*at, key))


def put(config: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The config with another value at one place."""
    changed: Any = copy.deepcopy(config)
    holder = changed
    for key in at[:-1]:
        holder = holder[key]
    holder[at[-1]] = value
    return changed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "d.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TRAIN))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))
    return tmp_path


async def refused_inside(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    """What a tool says if it meets a defect; empty: it does not."""
    async with asyncio.timeout(30):
        result = await client.call_tool(tool, arguments)
    text = result.content[0].text if result.content else ""  # pyright: ignore
    return text if result.is_error and text.startswith("INTERNAL") else ""


CALLS: Final[dict[str, tuple[dict[str, Any], Callable[[str], dict[str, Any]]]]] = {
    "run_oumi_job": (TRAIN, lambda path: {"config_path": path}),
    "schedule_job": (
        JOB,
        lambda path: {"config_path": path, "cloud": "gcp", "at": "2099-01-01"},
    ),
    "pre_flight_check": (JOB, lambda path: {"config": path}),
    "validate_config": (TRAIN, lambda path: {"config": path, "task_type": "training"}),
    "run_pipeline": (PIPELINE, lambda path: {"pipeline_path": path}),
}


@pytest.mark.parametrize("tool", CALLS)
async def test_a_value_of_any_type_anywhere_in_a_config_is_no_defect(
    client: Client, tool: str, folder: Path
) -> None:
    config, arguments = CALLS[tool]
    draw = random.Random(7)
    cases = [(at, value) for at in places(config) for value in VALUES]
    for at, value in draw.sample(cases, 50):
        path = folder / "odd.yaml"
        path.write_text(yaml.safe_dump(put(config, at, value), allow_unicode=True))
        call = {**arguments(str(path)), "client_cwd": str(folder)}
        assert not await refused_inside(client, tool, call), (at, value)


MOUNTS = (3, {"/a": 3}, {3: "./b"}, {3: 4}, {"/a": None}, {"/a": [1]}, [1], "x", {True: False})


@pytest.mark.parametrize("cloud", ["gcp", "slurm", "modal", "polaris"])
async def test_mounts_of_any_type_are_no_defect(client: Client, cloud: str, folder: Path) -> None:
    for mounts in MOUNTS:
        for key in ("file_mounts", "storage_mounts"):
            config = {**JOB, "resources": {"cloud": cloud}, key: mounts}
            (folder / "odd.yaml").write_text(yaml.safe_dump(config))
            call = {"config_path": "odd.yaml", "client_cwd": str(folder), "cloud": cloud}
            answer = await refused_inside(client, "run_oumi_job", {**call, "skip_preflight": True})
            assert not answer, (key, mounts)


@pytest.mark.parametrize("number", [2**65, -(10**30), 10**400, 10**4200])
async def test_an_integer_beyond_64_bits_is_refused_wherever_it_stands(
    client: Client, folder: Path, number: int
) -> None:
    where = {"client_cwd": str(folder)}
    sweep = {"config_path": "train.yaml", "metric": "loss", "trials": 3}
    space = {"training.seed": {"low": 1, "high": number}}
    for tool, call in (
        ("run_oumi_job", {"config_path": "train.yaml", "overrides": {"training.seed": number}}),
        ("run_sweep", {"sweep": {**sweep, "space": space}}),
        ("run_sweep", {"sweep": {**sweep, "space": {"training.max_steps": [1, number]}}}),
        ("list_jobs", {"limit": number}),
    ):
        result = await client.call_tool(tool, call if tool == "list_jobs" else {**call, **where})
        assert "INVALID_ARGUMENT" in str(result.content)


async def test_arguments_of_any_type_are_no_defect(client: Client, folder: Path) -> None:
    draw = random.Random(7)
    for tool in (await client.list_tools()).tools:
        properties: dict[str, Any] = tool.input_schema["properties"]
        if tool.name == "wait_for_job" or not properties:
            continue
        for _ in range(6):
            call = {name: _argument(name, draw, folder) for name in properties}
            call.pop(draw.choice(list(properties)))
            assert not await refused_inside(client, tool.name, call), (tool.name, call)


def _argument(name: str, draw: random.Random, folder: Path) -> Any:
    usual = {
        "client_cwd": str(folder), "config_path": "train.yaml", "config": "job.yaml",
        "job_id": "abcdef12", "dry_run": True, "cron": "0 2 * * *", "command": "train",
        "task_type": "training", "overrides": {"training.max_steps": 3},
    }  # fmt: skip
    if draw.random() < 0.7 and name in usual:
        return usual[name]
    value = draw.choice(VALUES)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except ValueError:
        return 10**400
