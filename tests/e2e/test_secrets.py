"""A job's secrets reach the job, and nothing that anybody is shown."""

import hashlib
import json
import re
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client

from flows.core.settings import Settings
from tests.support.mcp_client import Session, mcp_session
from tests.support.prefect_records import everything_kept, kept_lately
from tests.support.stack import WORKER_SECRET, Stack

pytestmark = pytest.mark.engine

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKl0123456789",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "DB_PASSWORD": "correct-horse-battery",
    "DB_PWD": "cnry-01-a7c3e5",
    "MYSQL_PWD": "cnry-02-b8d4f6",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T01/B02/cnry03c9e5a7",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=x;AccountKey=cnry04+d0f6b8/==",
    "SENTRY_DSN": "https://cnry05e1a7c9@o1.ingest.sentry.io/2",
    "SSHPASS": "cnry-06 'f2b8d0' with spaces",
    "HF_TOKENS": "cnry-07-a3c9e1,cnry-08-b4d0f2",
    "ACCESSKEY": "cnry09c5e1a3",
    "MY_KEY": "cnry-10-d6f2b4",
    "API_TOKEN": 'cnry-11/"e7a3c5"\\x',
    "CLIENT_SECRET": "cnry-12&f8b4d6?=",
    "DATABASE_URL": "postgres://me:cnry-13-a9c5e7@db.example.com/x",
    "GITLAB_PAT": "cnry-14-b0d6f8",
    "BASIC_AUTH": "me:cnry-15-c1e7a9",
    "ENCRYPTION_KEY": "Y25yeTE2+2f8b0/==",
    "SIGNING_KEY": "cnry-17-e3a9c1-\u00e9",
    "MODEL_SOURCE": "https://cnry18f4b0d2@example.com/model.git",
}
"""In the job config's variables."""
OTHERS = {name: f"another-{value}" for name, value in SECRETS.items()}
"""Those of a job of the same name that this one is compared with."""
INLINE = "ghp_0123456789abcdefABCDEF"
PEM_BODY = ["MIIEvQIBADANBgkqhkiG9w0BAQEF" + str(line) * 36 for line in range(4)]
IN_SCRIPT = {
    "assigned": "cnry-19-a5c1e3",
    "exported": "cnry-20-b6d2f4",
    "option": "cnry-21-c7e3a5",
    "login": "cnry22d8f4b6d8f4b6",
    "basic": "cnry-23-e9a5c7",
    "header": "cnry-24-f0b6d8",
    "in json": "cnry-25-a1c7e9",
    "gsk": "gsk_cnry26b2d8f0b2d8f0b2d8f0",
    "stripe": "sk_" + "live_cnry27c3e9a1c3e9a1c3",
    "aws": "AKIACNRY28D4F0B2D4F0",
    "google": "AIzaSyCnry29e5a1c3e5a1c3e5a1c3e5a1c3e",
    "slack": "xoxb-3030303030-cnry30f6b2d4",
    "gitlab": "glpat-cnry31a7c3e5a7c3e5a7",
    "jwt": "eyJhbGciOiJI.eyJjbnJ5IjozMn0.cnry32b8d4f6b8d4f6",
    "npm": "npm_cnry33c9e5a7c9e5a7c9e5a7c9e5a7c9e5a7",
    "openai": "sk-proj-cnry34d0f6b8d0f6b8d0f6b8",
    "in url": "cnry35e1a7c9e1a7c9",
    "netrc": "cnry-36-f2b8d0",
}
SERVER_SECRET = {"CANARY_SERVER_TOKEN": "srv-6c8e0a24-canary-of-the-server"}
SCRIPT = f"""
export GITHUB_PAT={INLINE}
TEAM_TOKEN={IN_SCRIPT["assigned"]}
export TEAM_SECRET="{IN_SCRIPT["exported"]}"
: train --api-token {IN_SCRIPT["option"]}
: wandb login {IN_SCRIPT["login"]}
: curl -u me:{IN_SCRIPT["basic"]} -H "X-Api-Key: {IN_SCRIPT["header"]}" https://example.com
: machine example.com login me password {IN_SCRIPT["netrc"]}
echo '{{"password": "{IN_SCRIPT["in json"]}"}}' {IN_SCRIPT["basic"]} {IN_SCRIPT["login"]}
echo {IN_SCRIPT["gsk"]} {IN_SCRIPT["stripe"]} {IN_SCRIPT["aws"]} {IN_SCRIPT["google"]}
echo {IN_SCRIPT["slack"]} {IN_SCRIPT["gitlab"]} {IN_SCRIPT["jwt"]} {IN_SCRIPT["npm"]}
echo {IN_SCRIPT["openai"]} https://{IN_SCRIPT["in url"]}@example.com/x $TEAM_TOKEN $TEAM_SECRET
echo {SERVER_SECRET["CANARY_SERVER_TOKEN"]}
cat <<'EOF'
-----BEGIN PRIVATE KEY-----
{chr(10).join(PEM_BODY)}
-----END PRIVATE KEY-----
EOF
printenv | sort
echo "$DB_PASSWORD" | base64
printf %s "$HF_TOKEN$WANDB_API_KEY$DB_PASSWORD$GITHUB_PAT" | sha256sum >proof.txt
echo "Traceback (most recent call last):"
echo {SERVER_SECRET["CANARY_SERVER_TOKEN"]}
echo "ValueError: $DB_PASSWORD and $WANDB_API_KEY do not let $HF_TOKEN in"
exit 3
"""
HOLDERS = {"run.sh", "spec.json", "log.txt"}
"""Files of a local job: what it runs, with which variables of its own, and what it wrote."""


async def test_no_secret_of_a_job_is_shown_and_all_of_them_reach_it(
    stack: Stack, tmp_path: Path
) -> None:
    config = tmp_path / "job.yaml"
    job = {"name": "secretive", "envs": SECRETS, "run": SCRIPT}
    config.write_text(yaml.safe_dump(job))
    env = {name: value for name, value in stack.env.items() if name not in WORKER_SECRET}
    async with mcp_session(replace(stack, env=env | SERVER_SECRET)) as session:
        answers_seen = [await _plan(session, config)]
        job_id = await session.submit(config)
        answers_seen.append(json.dumps(await session.wait(job_id)))
        await session.call("retry_job", job_id=job_id)
        ended = await session.wait(job_id)
        assert (ended["state"], ended["attempt"]) == ("failed", 2)
        other = tmp_path / "other" / "job.yaml"
        other.parent.mkdir()
        other.write_text(yaml.safe_dump({**job, "envs": OTHERS}))
        other_id = await session.submit(other)
        await session.wait(other_id)
        answers_seen += [json.dumps(ended), *await _ask_everything(session, job_id, config)]
        schedule_id, *answers = await _told_of_it_elsewhere(session, ended, other_id, config)
        answers_seen += answers
        kept = [
            await everything_kept(stack.connection, job_id, attempts=2),
            await everything_kept(stack.connection, other_id, attempts=1),
            await kept_lately(stack.connection),
        ]
        await session.call("update_schedule", schedule_id=schedule_id, action="delete")
    theirs = {**WORKER_SECRET, **SERVER_SECRET}.values()
    secrets = [*SECRETS.values(), *OTHERS.values(), INLINE, *IN_SCRIPT.values(), *PEM_BODY, *theirs]
    shown = f"{answers_seen} {kept}"
    assert [secret for secret in secrets if is_in(secret, shown)] == []
    home = Path(stack.env["OUMI_FLOWS_HOME"])
    assert [secret for secret in secrets if is_in(secret, database_text(home))] == []
    assert files_with(home, secrets) == {}
    specs, log = _texts(home, "spec.json"), _texts(Path(ended["log_path"]).parent, "log.txt")
    assert not any(is_in(secret, specs) for secret in WORKER_SECRET.values())
    # The job has them all, from wherever they come.
    assert [secret for secret in (*theirs, *SECRETS.values(), *PEM_BODY) if secret not in log] == []
    # They were there to be shown, and were hidden.
    assert "ValueError: *** and *** do not let *** in" in ended["error_tail"]
    assert "ValueError: *** and *** do not let *** in" in kept[0]
    reached = hashlib.sha256("".join([*list(SECRETS.values())[:3], INLINE]).encode()).hexdigest()
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


async def _ask_everything(session: Session, job_id: str, config: Path) -> list[str]:
    """What every tool and resource says of the job."""
    given = {"config_path": str(config), "client_cwd": str(config.parent)}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("get_job_status", {"job_id": job_id}),
        ("wait_for_job", {"job_id": job_id, "timeout_seconds": 0}),
        ("get_job_logs", {"job_id": job_id, "lines": 2000}),
        ("get_job_logs", {"job_id": job_id, "grep": "TOKEN|KEY|PASSWORD"}),
        ("get_job_logs", {"job_id": job_id, "grep": "cnry|canary|horse|MIIE", "lines": 2000}),
        ("list_jobs", {}),
        ("cancel_job", {"job_id": job_id}),
        ("validate_config", {"config": str(config), "task_type": "job", **_cwd(config)}),
        ("run_oumi_job", {**given, "cloud": "gcp"}),
        ("run_oumi_job", {**given, "overrides": {"model.token": SECRETS["HF_TOKEN"]}}),
    ]
    client: Client = session.client
    offered = (await client.list_tools()).tools
    calls += [
        (tool.name, {"job_id": job_id})
        for tool in offered
        if tool.input_schema.get("required") == ["job_id"] and tool.name != "retry_job"
    ]
    answers_seen = [(await client.call_tool(tool, arguments)) for tool, arguments in calls]
    resources = [f"jobs://{job_id}", f"jobs://{job_id}/logs", "jobs://completed", "jobs://running"]
    read = [await client.read_resource(uri) for uri in resources]
    return [answer.model_dump_json() for answer in (*answers_seen, *read)]


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
    answers_seen = [
        scheduled,
        await _answer(session, "get_job_status", **known_there),
        await _answer(session, "get_job_logs", lines=2000, **known_there),
        await _answer(session, "adopt_job", launcher_job_id=job["launcher_job_id"], **there),
        await _answer(session, "list_clusters", cloud=job["cloud"]),
        await _answer(session, "compare_jobs", a=job["job_id"], b=other_id),
        await _answer(session, "list_schedules"),
        await _answer(session, "list_jobs", limit=100),
    ]
    return [scheduled["schedule_id"], *(json.dumps(answer) for answer in answers_seen)]


def is_in(secret: str, text: str) -> bool:
    """Whether a text has a secret, or most of it, plain or as JSON writes it."""
    parts = [secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1]]
    cores = re.findall(r"cnry[\w-]{6,}", secret)
    return any(part in text for part in (*parts, *cores))


def _texts(folder: Path, name: str) -> str:
    return "".join(path.read_text() for path in folder.rglob(name))


def database_text(home: Path) -> str:
    """Every cell of the Prefect server's database."""
    (path,) = home.rglob("*.db")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        tables = [
            row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = (row for table in tables for row in database.execute(f'SELECT * FROM "{table}"'))
        return "\n".join(str(cell) for row in rows for cell in row)


def files_with(home: Path, secrets: list[str]) -> dict[str, list[str]]:
    """The files that hold secrets, but for those that a job's own must be in."""
    found: dict[str, list[str]] = {}
    copies = Settings(home=home).snapshots_dir
    for path in home.rglob("*"):
        if path.is_file() and path.name not in HOLDERS and path.parent != copies:
            text = path.read_bytes().decode(errors="replace")
            if there := [secret for secret in secrets if is_in(secret, text)]:
                found[str(path)] = there
    return found


async def _answer(session: Session, tool: str, **arguments: object) -> dict[str, Any]:
    """What a tool says; a busy worker may take longer than one call waits, and says so."""
    while True:
        result = await session.client.call_tool(tool, arguments)
        if not result.is_error:
            assert result.structured_content is not None
            return result.structured_content
        assert "TIMEOUT: " in str(result.content)


def _cwd(config: Path) -> dict[str, str]:
    return {"client_cwd": str(config.parent)}
