"""Secret variables of a pipeline's steps and a sweep's trials: references stand for them."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from flows.core.private_envs import PrivateEnvs
from flows.core.settings import Settings
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer

SECRETS = ["cnry-${41}-a7c3e5", "cnry-42-b8d4f6", "cnry-43-c9e5a7", "hf_" + "Q7wZ" * 8]
PLAIN = [SECRETS[0].replace("$", "$$"), *SECRETS[1:]]
JOB = "resources: {cloud: local}\nrun: env\n"


@pytest.fixture
def folder(config: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUMI_FLOWS_HOME", str(settings.home))
    monkeypatch.setenv("HF_TOKEN", SECRETS[3])
    (config.parent / "job.yaml").write_text(JOB)
    return config.parent


def values_of(envs: dict[str, str], settings: Settings) -> dict[str, str]:
    revealed = PrivateEnvs(settings.private_envs_dir).reveal(envs)
    return {name: value for name, value in revealed.items() if envs[name] != value}


def parameters_of(prefect: PrefectServer, answer: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a run that was submitted; no secret is in them, nor in the answer."""
    parameters = prefect.read_run(answer["job_id"])["parameters"]
    shown = json.dumps([parameters, answer])
    assert [one for one in (*SECRETS, *PLAIN) if json.dumps(one)[1:-1] in shown] == []
    return parameters


async def test_the_secrets_of_a_pipelines_steps_are_kept_in_private_files(
    client: Client, folder: Path, prefect: PrefectServer, settings: Settings
) -> None:
    items = [{"name": "a", "token": SECRETS[1]}, {"name": "b", "token": SECRETS[2]}]
    steps = [
        {"name": "first", "config_path": "job.yaml", "envs": {"DB_PASSWORD": PLAIN[0], "N": 5}},
        {
            "name": "each",
            "config_path": "job.yaml",
            "needs": ["first"],
            "each": items,
            "envs": {"MY_API_KEY": "${item.token}", "OF": "${first.job_id}"},
        },
    ]
    given = {"steps": steps, "client_cwd": str(folder), "dry_run": False}
    parameters = parameters_of(prefect, await ok(client, "run_pipeline", **given))
    parts = parameters["pipeline"]["parts"]
    assert [values_of(part["request"]["envs"], settings) for part in parts] == [
        {"DB_PASSWORD": SECRETS[0], "HF_TOKEN": SECRETS[3]},
        {"MY_API_KEY": SECRETS[1], "HF_TOKEN": SECRETS[3]},
        {"MY_API_KEY": SECRETS[2], "HF_TOKEN": SECRETS[3]},
    ]
    assert parts[0]["request"]["envs"]["N"] == "5"
    assert parts[1]["request"]["envs"]["OF"] == "${first.job_id}"


@pytest.mark.parametrize("as_points", [False, True])
async def test_the_secrets_of_a_sweeps_trials_are_kept_in_private_files(
    client: Client, folder: Path, prefect: PrefectServer, settings: Settings, as_points: bool
) -> None:
    key = "envs.MY_API_KEY"
    space = [{key: one} for one in SECRETS[1:3]] if as_points else {key: SECRETS[1:3]}
    sweep = {
        "config_path": "job.yaml",
        "envs": {"DB_PASSWORD": SECRETS[0]},
        "space": space,
        "metric": "score",
    }
    given = {"sweep": sweep, "client_cwd": str(folder), "dry_run": False}
    sent = parameters_of(prefect, await ok(client, "run_sweep", **given))["sweep"]
    assert values_of(sent["request"]["envs"], settings) == {
        "DB_PASSWORD": SECRETS[0],
        "HF_TOKEN": SECRETS[3],
    }
    tried = [values_of({"MY_API_KEY": one}, settings) for one in sent["space"][key]]
    assert tried == [{"MY_API_KEY": one} for one in SECRETS[1:3]]


async def test_a_schedule_of_a_pipeline_keeps_its_secrets_in_private_files(
    client: Client, folder: Path, prefect: PrefectServer, settings: Settings
) -> None:
    text = "steps: [{name: a, config_path: job.yaml, envs: {DB_PASSWORD: " + SECRETS[1] + "}}]\n"
    (folder / "nightly.yaml").write_text(text)
    given = {"config_path": "nightly.yaml", "client_cwd": str(folder), "cron": "0 2 * * *"}
    answer = await ok(client, "schedule_job", **given, dry_run=False)
    schedules = json.dumps([answer, await ok(client, "list_schedules")])
    kept = json.dumps(prefect.schedules())
    assert "oumi-flows-private:" in kept
    assert [one for one in SECRETS if one in schedules + kept] == []
    schedule_id = answer["schedule_id"]
    await ok(client, "update_schedule", schedule_id=schedule_id, action="delete")
