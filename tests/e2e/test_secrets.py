"""A job's secrets reach the job, and nothing that anybody is shown."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from mcp import Client

from flows.settings import Settings
from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKl0123456789",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "DB_PASSWORD": "correct-horse-battery",
}
INLINE = "ghp_0123456789abcdefABCDEF"
SCRIPT = f"""
export GITHUB_PAT={INLINE}
printenv | sort
printf %s "$HF_TOKEN$WANDB_API_KEY$DB_PASSWORD$GITHUB_PAT" | sha256sum >proof.txt
echo "Traceback (most recent call last):"
echo "ValueError: $DB_PASSWORD and $WANDB_API_KEY do not let $HF_TOKEN in"
exit 3
"""


async def test_no_secret_of_a_job_is_shown_and_all_of_them_reach_it(
    stack: Stack, tmp_path: Path
) -> None:
    config = tmp_path / "job.yaml"
    job = {"name": "secretive", "envs": SECRETS, "run": SCRIPT}
    config.write_text(yaml.safe_dump(job))
    async with mcp_session(stack) as session:
        told = [await _plan(session, config)]
        job_id = await session.submit(config)
        told.append(json.dumps(await session.wait(job_id)))
        await session.call("retry_job", job_id=job_id)
        ended = await session.wait(job_id)
        assert (ended["state"], ended["attempt"]) == ("failed", 2)
        told += [json.dumps(ended), *await _everything_told(session, job_id, config)]
    kept = await _everything_kept(stack, job_id)
    shown = {secret: secret in f"{told} {kept}" for secret in [*SECRETS.values(), INLINE]}
    assert not any(shown.values())
    # They were there to be shown, and were hidden.
    assert "ValueError: *** and *** do not let *** in" in ended["error_tail"]
    assert "ValueError: *** and *** do not let *** in" in kept
    reached = hashlib.sha256("".join([*SECRETS.values(), INLINE]).encode()).hexdigest()
    assert (tmp_path / "proof.txt").read_text().split()[0] == reached
    copies = Settings(home=Path(stack.env["OUMI_FLOWS_HOME"])).snapshots_dir
    modes = {stat.S_IMODE(copy.stat().st_mode) for copy in copies.iterdir()}
    assert modes == {0o600}


async def _plan(session: Session, config: Path) -> str:
    plan = await session.call(
        "run_oumi_job", config_path=str(config), client_cwd=str(config.parent)
    )
    assert "HF_TOKEN: '***'" in plan["plan"]["job_config"]
    return json.dumps(plan)


async def _everything_told(session: Session, job_id: str, config: Path) -> list[str]:
    """What every tool and resource says of the job."""
    given = {"config_path": str(config), "client_cwd": str(config.parent)}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_job_status", {"job_id": job_id}),
        ("wait_for_job", {"job_id": job_id, "timeout_seconds": 0}),
        ("get_job_logs", {"job_id": job_id, "lines": 2000}),
        ("get_job_logs", {"job_id": job_id, "grep": "TOKEN|KEY|PASSWORD"}),
        ("list_jobs", {}),
        ("cancel_job", {"job_id": job_id}),
        ("validate_config", {"config": str(config), "task_type": "job", **_cwd(config)}),
        ("run_oumi_job", {**given, "cloud": "gcp"}),
        ("run_oumi_job", {**given, "overrides": {"model.token": SECRETS["HF_TOKEN"]}}),
    ]
    client: Client = session.client
    told = [(await client.call_tool(tool, arguments)) for tool, arguments in calls]
    resources = [f"jobs://{job_id}", f"jobs://{job_id}/logs", "jobs://completed", "jobs://running"]
    read = [await client.read_resource(uri) for uri in resources]
    return [answer.model_dump_json() for answer in (*told, *read)]


def _cwd(config: Path) -> dict[str, str]:
    return {"client_cwd": str(config.parent)}


async def _everything_kept(stack: Stack, job_id: str) -> str:
    """What Prefect keeps of the job: run, states, task runs, log, artifacts, events."""
    of_run = {"flow_run_id": {"any_": [job_id]}}
    async with httpx2.AsyncClient(
        base_url=stack.connection.api_url, headers=dict(stack.connection.headers), timeout=30
    ) as api:

        async def read(method: str, path: str, body: Any = None) -> str:
            answer = await api.request(method, path, json=body)
            answer.raise_for_status()
            return answer.text

        async def log() -> str:
            text = await read("POST", "/logs/filter", {"logs": of_run, "limit": 200})
            return text if text.count("Finished in state Failed") >= 2 else ""

        events = {"filter": {"any_resource": {"id": [f"prefect.flow-run.{job_id}"]}}}
        flow_runs = {"flow_runs": {"id": {"any_": [job_id]}}}
        parts = [
            await eventually(log, timeout=30),
            await read("GET", f"/flow_runs/{job_id}"),
            await read("GET", f"/flow_run_states/?flow_run_id={job_id}"),
            await read("POST", "/task_runs/filter", flow_runs),
            await read("POST", "/artifacts/filter", {"artifacts": of_run}),
            await read("POST", "/events/filter", events),
        ]
    return "\n".join(parts)
