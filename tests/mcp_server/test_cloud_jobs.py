"""Submitting jobs to clouds."""

import shutil
from pathlib import Path

import pytest
import yaml
from mcp.client import Client

from flows.core.names import own_cluster
from tests.mcp_server.calls import error, ok
from tests.mcp_server.prefect_stub import PrefectServer

SECRET = "s3cr3t-value"
JOB = f"""
name: sweep
resources: {{cloud: gcp, accelerators: "A100:1"}}
envs: {{HF_TOKEN: {SECRET}, OTHER: plain}}
setup: pip install x
run: |
  export WANDB_API_KEY={SECRET}-2
  curl -H "Authorization: Bearer {SECRET}" https://me:{SECRET}@host
  oumi train -c train.yaml
"""


@pytest.fixture
def job(config: Path) -> Path:
    path = config.parent / "job.yaml"
    path.write_text(JOB)
    (config.parent / "train.yaml").write_text(config.read_text())
    return path


@pytest.fixture
def anywhere(config: Path) -> Path:
    """A job config that names no cloud."""
    path = config.parent / "anywhere.yaml"
    path.write_text("run: x\n")
    return path


async def test_a_dry_run_shows_the_whole_job_config_without_its_secrets(
    client: Client, job: Path
) -> None:
    plan = await ok(
        client, "run_oumi_job", config_path="job.yaml", client_cwd=str(job.parent), cloud="gcp"
    )
    assert (plan["cloud"], plan["cluster_name"]) == ("gcp", "oumi-<job id>")
    shown = yaml.safe_load(plan["plan"]["job_config"])
    assert shown == {
        "name": "sweep",
        "resources": {"cloud": "gcp", "accelerators": "A100:1"},
        "envs": {"PYTHONUNBUFFERED": "1", "COLUMNS": "400", "HF_TOKEN": "***", "OTHER": "plain"},
        "setup": "pip install x",
        "run": "export WANDB_API_KEY=***\n"
        'curl -H "Authorization: Bearer ***" https://***@host\n'
        "oumi train -c train.yaml\n",
        "working_dir": str(job.parent),
    }
    assert SECRET not in str(plan)
    counted = 3 if shutil.which("rsync") else None
    assert (plan["hourly_price"], plan["sync"]["files"]) == (None, counted)
    copied = "MB are copied" if counted else "files to copy not counted"
    assert plan["summary"].endswith(f"{copied}; hourly price unknown.")


async def test_a_job_is_submitted_to_a_cloud_with_a_cluster_of_its_own(
    client: Client, job: Path, prefect: PrefectServer
) -> None:
    given = {"config_path": str(job), "client_cwd": str(job.parent), "cloud": "gcp"}
    started = await ok(client, "run_oumi_job", dry_run=False, **given)
    assert started["cluster_name"] == own_cluster(started["job_id"])
    run = prefect.read_run(started["job_id"])
    assert run["parameters"]["request"]["cloud"] == "gcp"
    assert "cloud:gcp" in run["tags"]
    assert SECRET not in str(run)


async def test_a_job_keeps_the_slurm_cluster_it_was_submitted_for(
    client: Client, anywhere: Path, prefect: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUMI_SLURM_CONNECTIONS", "me@there")
    given = {"config_path": str(anywhere), "client_cwd": str(anywhere.parent), "cloud": "slurm"}
    started = await ok(client, "run_oumi_job", dry_run=False, **given)
    assert started["cluster_name"] == "me@there"
    request = prefect.read_run(started["job_id"])["parameters"]["request"]
    assert request["cluster_name"] == "me@there"


async def test_the_clouds_of_argument_and_config_must_agree(client: Client, job: Path) -> None:
    given = {"config_path": str(job), "client_cwd": str(job.parent)}
    text = await error(client, "run_oumi_job", **given, cloud="aws")
    assert text.startswith("CONFLICT: ")
    assert "'gcp'" in text
    assert "'aws'" in text
    # What may cost money is asked for by name.
    text = await error(client, "run_oumi_job", **given)
    assert text.startswith("CONFLICT: ")
    assert text.endswith("Request cloud 'gcp' or change the config.")


async def test_a_log_is_read_without_the_secrets_of_its_job(
    client: Client, job: Path, prefect: PrefectServer, tmp_path: Path
) -> None:
    given = {"config_path": str(job), "client_cwd": str(job.parent), "cloud": "gcp"}
    job_id = (await ok(client, "run_oumi_job", dry_run=False, **given))["job_id"]
    log = tmp_path / "log.txt"
    log.write_text(f"it is {SECRET} or hf_AbCdEfGh0123456789\nValueError: {SECRET}\n")
    prefect.label(job_id, log_path=str(log))
    prefect.set_states(job_id, "RUNNING", "FAILED", message="nonzero_exit: hf_AbCdEfGh0123456789")
    logs = await ok(client, "get_job_logs", job_id=job_id)
    assert logs["logs"] == "it is *** or ***\nValueError: ***"
    status = await ok(client, "get_job_status", job_id=job_id)
    assert status["error_tail"] == "it is *** or ***\nValueError: ***"
    assert status["message"] == "***"


async def test_a_cloud_job_does_not_stand_behind_local_ones(
    client: Client, job: Path, prefect: PrefectServer
) -> None:
    given = {"config_path": "job.yaml", "client_cwd": str(job.parent), "dry_run": False}
    submitted = await ok(client, "run_oumi_job", **given, cloud="gcp")
    assert prefect.read_run(submitted["job_id"])["work_queue_name"] == "clouds"


@pytest.mark.parametrize("cloud", ["local", "slurm", "modal"])
async def test_autostop_is_refused_where_clusters_do_not_stop_themselves(
    client: Client, anywhere: Path, cloud: str
) -> None:
    refused = await error(
        client,
        "run_oumi_job",
        config_path=str(anywhere),
        client_cwd=str(anywhere.parent),
        cloud=cloud,
        autostop_minutes=5,
    )
    assert refused == (
        f"INVALID_ARGUMENT: Clusters on {cloud} do not stop themselves. Leave autostop_minutes out."
    )
