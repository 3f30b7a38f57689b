"""A job's secrets reach the job, and nothing that anybody is shown."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client

from flows.settings import Settings
from tests.support.mcp_client import Session, mcp_session
from tests.support.prefect_records import everything_kept, kept_lately
from tests.support.stack import Stack

pytestmark = pytest.mark.engine

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKl0123456789",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "DB_PASSWORD": "correct-horse-battery",
}
OTHERS = {name: f"another-{value}" for name, value in SECRETS.items()}
"""Those of a job of the same name that this one is compared with."""
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
        other = tmp_path / "other" / "job.yaml"
        other.parent.mkdir()
        other.write_text(yaml.safe_dump({**job, "envs": OTHERS}))
        other_id = await session.submit(other)
        await session.wait(other_id)
        told += [json.dumps(ended), *await _everything_told(session, job_id, config)]
        schedule_id, *answers = await _told_of_it_elsewhere(session, ended, other_id, config)
        told += answers
        kept = [
            await everything_kept(stack.connection, job_id, attempts=2),
            await everything_kept(stack.connection, other_id, attempts=1),
            await kept_lately(stack.connection),
        ]
        await session.call("update_schedule", schedule_id=schedule_id, action="delete")
    secrets = [*SECRETS.values(), *OTHERS.values(), INLINE]
    shown = {secret: secret in f"{told} {kept}" for secret in secrets}
    assert not any(shown.values())
    # They were there to be shown, and were hidden.
    assert "ValueError: *** and *** do not let *** in" in ended["error_tail"]
    assert "ValueError: *** and *** do not let *** in" in kept[0]
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


async def _told_of_it_elsewhere(
    session: Session, job: dict[str, Any], other_id: str, config: Path
) -> list[str]:
    """The id of a schedule of it; what is said of that, and of the job where it runs."""
    there = {"cloud": job["cloud"], "cluster_name": job["cluster_name"]}
    known_there = {"job_id": job["job_id"], **there}
    scheduled = await session.call(
        "schedule_job",
        config_path=str(config),
        interval_seconds=86400,
        dry_run=False,
        **_cwd(config),
    )
    told = [
        scheduled,
        await session.call("get_job_status", **known_there),
        await session.call("get_job_logs", lines=2000, **known_there),
        await session.call("adopt_job", launcher_job_id=job["launcher_job_id"], **there),
        await session.call("list_clusters", cloud=job["cloud"]),
        await session.call("compare_jobs", a=job["job_id"], b=other_id),
        await session.call("list_schedules"),
        await session.call("list_jobs", limit=100),
    ]
    return [scheduled["schedule_id"], *(json.dumps(answer) for answer in told)]


def _cwd(config: Path) -> dict[str, str]:
    return {"client_cwd": str(config.parent)}
