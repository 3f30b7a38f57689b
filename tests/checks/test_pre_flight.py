"""The pre-flight check as a client sees it, and inside a submission."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.errors import EngineUnavailable
from flows.core.settings import Settings
from mcp_server.server import Options, build_server, make_parts
from tests.mcp_server.calls import error, ok
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack

TRAIN = """\
model: {model_name: ./model}
data: {train: {datasets: [{dataset_name: text_sft_jsonl, dataset_path: data.jsonl}]}}
training: {trainer_type: TRL_SFT, output_dir: out, max_steps: 1}
"""
JOB = """\
resources: {cloud: gcp, accelerators: "A100:1"}
setup: |
  set -e
  pip install oumi
run: oumi train -c train.yaml --training.max_stepz 3
"""


def no_engine(*, report: object, after_down: bool) -> Any:
    raise EngineUnavailable("There is no engine in this test", "Start none")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    parts = make_parts(Settings(home=tmp_path / "home", engine_timeout_seconds=5), no_engine)
    async with Client(build_server(parts, Options(toolsets=["checks", "jobs"]))) as connected:
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "client"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "data.jsonl").write_text(json.dumps({"messages": []}) + "\n")
    (folder / "train.yaml").write_text(TRAIN)
    (folder / "job.yaml").write_text(JOB)
    return folder


async def test_without_a_worker_it_tells_what_the_files_tell(client: Client, folder: Path) -> None:
    answer = await ok(client, "pre_flight_check", config="job.yaml", client_cwd=str(folder))
    assert answer["blocking"] is True
    assert answer["followed_configs"] == [str(folder / "train.yaml")]
    assert [(e["code"], e["key"], e["line"]) for e in answer["errors"]] == [
        ("bad_option", "run", 5)
    ]
    assert "did you mean training.max_steps?" in answer["errors"][0]["message"]
    codes = {warning["code"] for warning in answer["warnings"]}
    assert codes == {"ephemeral_output", "worker_not_asked"}
    assert answer["hardware"] is None


async def test_a_training_config_for_a_cloud_gets_advice_on_what_it_needs_there(
    client: Client, folder: Path
) -> None:
    text = TRAIN.replace("./model", "org/model-8b, attn_implementation: flash_attention_2")
    (folder / "train.yaml").write_text(text)
    given = {"config": "train.yaml", "client_cwd": str(folder)}
    answer = await ok(client, "pre_flight_check", **given, cloud="gcp")
    assert (answer["blocking"], answer["errors"]) == (False, [])
    said = {warning["code"]: warning for warning in answer["warnings"]}
    assert set(said) == {"needs_job_config", "needs_gpus", "ephemeral_output", "worker_not_asked"}
    fix = said["needs_job_config"]["fix"]
    assert "`pip install 'oumi[gpu]' flash-attn`, run with `oumi train -c train.yaml`" in fix
    assert "takes about 64 GB of GPU memory" in said["needs_gpus"]["message"]
    assert "such as resources.accelerators: A100-80GB:1" in said["needs_gpus"]["fix"]
    given = {"config_path": "train.yaml", "client_cwd": str(folder), "cloud": "gcp"}
    refusal = await error(client, "run_oumi_job", **given)
    assert "pre_flight_check with this cloud lists what it needs" in refusal


async def test_a_submission_that_would_fail_is_refused_before_anything_is_started(
    client: Client, folder: Path
) -> None:
    (folder / "data.jsonl").unlink()
    given: dict[str, Any] = {"config_path": "train.yaml", "client_cwd": str(folder)}
    text = await error(client, "run_oumi_job", **given, dry_run=False)
    assert text.startswith("PREFLIGHT_BLOCKED: Pre-flight found what would make the job fail: ")
    assert "path_not_found: data.train.datasets[0].dataset_path is data.jsonl" in text
    text = await error(client, "run_oumi_job", **given, dry_run=False, skip_preflight=True)
    assert text.startswith("ENGINE_UNAVAILABLE: ")


async def test_a_dry_run_tells_what_was_found(client: Client, folder: Path) -> None:
    (folder / "data.jsonl").unlink()
    given: dict[str, Any] = {"config_path": "train.yaml", "client_cwd": str(folder)}
    plan = await ok(client, "run_oumi_job", **given)
    found, unchecked = plan["warnings"]
    assert "data.jsonl" in found
    assert unchecked.startswith("Not checked yet: ")
    (skipped,) = (await ok(client, "run_oumi_job", **given, skip_preflight=True))["warnings"]
    assert skipped.startswith("skip_preflight is set: ")


async def test_the_worst_answer_is_within_bounds(client: Client, folder: Path) -> None:
    keys = "\n".join(f"  wrong_{'x' * 200}_{number}: 1" for number in range(500))
    envs = "\n".join(f"  {'A' * 200}_{number}_TOKEN: secret-{number}-value" for number in range(99))
    (folder / "job.yaml").write_text(f"run: echo\nresources:\n{keys}\nenvs:\n{envs}\n")
    result = await client.call_tool(
        "pre_flight_check", {"config": "job.yaml", "client_cwd": str(folder)}
    )
    assert not result.is_error
    (content,) = result.content
    assert content.type == "text"
    assert len(content.text.encode()) <= 12_000
    assert "secret-1-value" not in content.text


@pytest.mark.engine
async def test_the_worker_adds_what_its_machine_the_registry_and_the_hub_tell(
    stack: Stack, folder: Path
) -> None:
    text = TRAIN.replace("text_sft_jsonl", "text_sft_jsonlines").replace("./model", "org/no-model")
    (folder / "train.yaml").write_text(text)
    async with mcp_session(stack) as session:
        answer = await session.call("pre_flight_check", config="train.yaml", client_cwd=str(folder))
        job = await session.call(
            "run_oumi_job", config_path="train.yaml", client_cwd=str(folder), dry_run=False
        )
        ended = await session.wait(job["job_id"])
    codes = {finding["code"]: finding for finding in answer["errors"] + answer["warnings"]}
    assert codes["dataset_not_found"]["nearest"] == "text_sft_jsonl"
    assert answer["repo_access"]["org/no-model"] == "offline"
    assert answer["hardware"]["where"] == "worker"
    assert "torch" in answer["hardware"]["packages"]
    assert (ended["state"], ended["termination_reason"]) == ("failed", "invalid_config")
    assert "dataset_not_found: Oumi has no data set text_sft_jsonlines" in ended["message"]


async def test_a_dry_run_says_processes_and_batch_and_gives_the_gpus_a_recipe_needs(
    client: Client, folder: Path
) -> None:
    text = f"# Needs: 8x A100-80GB\n{TRAIN}fsdp: {{enable_fsdp: true}}\n"
    (folder / "train.yaml").write_text(text)
    given: dict[str, Any] = {"config_path": "train.yaml", "client_cwd": str(folder)}
    one = await ok(client, "run_oumi_job", **given)
    assert "; 1 process; effective batch 8; the config is written for 8 GPUs" in one["summary"]
    refused = await error(client, "run_oumi_job", **given, dry_run=False)
    assert "needs_gpus: fsdp.enable_fsdp spreads the training over" in refused
    assert "Set gpus to 8 or to all, or set fsdp.enable_fsdp: false" in refused
    eight = await ok(client, "run_oumi_job", **given, gpus=8)
    assert "; 8 processes on 8 GPUs of the machine; effective batch 64." in eight["summary"]
    assert (eight["plan"]["processes"], eight["plan"]["effective_batch_size"]) == (8, 64)
    every = await ok(client, "run_oumi_job", **given, gpus="all")
    assert "; a process a GPU on all GPUs of the machine." in every["summary"]
    answer = await ok(
        client, "pre_flight_check", config="train.yaml", client_cwd=str(folder), gpus=8
    )
    assert answer["errors"] == []


@pytest.mark.parametrize("gpus", [0, -1, "many", 1.5, 5000])
async def test_a_number_of_gpus_that_cannot_be_is_refused(
    client: Client, folder: Path, gpus: object
) -> None:
    given: dict[str, Any] = {"config_path": "train.yaml", "client_cwd": str(folder)}
    text = await error(client, "run_oumi_job", **given, gpus=gpus)
    assert text.startswith("INVALID_ARGUMENT: run_oumi_job: gpus")
