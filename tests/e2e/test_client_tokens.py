"""Each client's own token reaches its jobs, also parts of pipelines and sweeps, and no other."""

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_secrets import database_text, files_with
from tests.support.mcp_client import Session, mcp_session
from tests.support.prefect_records import kept_lately
from tests.support.stack import Stack

pytestmark = pytest.mark.engine

TOKENS = {"one": "hf_" + "Ab1Cd2Ef3G" * 3, "two": "hf_" + "Zy9Xw8Vu7T" * 3}
PASSWORD = "cnry-51-e1c7a9-of-a-part"
SCRIPT = """
printf %s "$HF_TOKEN$DB_PASSWORD" | sha256sum | cut -c 1-64 >"$PROOF"
echo "the token is $HF_TOKEN"
echo '{"score": 0.5}'
"""


def digest(*parts: str) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()


async def test_two_clients_of_one_engine_with_different_tokens(
    stack: Stack, tmp_path: Path
) -> None:
    for name in TOKENS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.yaml").write_text(yaml.safe_dump({"run": SCRIPT}))
    shown = await asyncio.gather(
        *(_use(stack, tmp_path / name, token) for name, token in TOKENS.items())
    )
    for name, token in TOKENS.items():
        folder = tmp_path / name
        assert (folder / "job").read_text().strip() == digest(token)
        for part in ("step", "trial"):
            assert (folder / part).read_text().strip() == digest(token, PASSWORD), part
    secrets = [*TOKENS.values(), PASSWORD]
    kept = json.dumps([shown, await kept_lately(stack.connection)])
    assert [one for one in secrets if one in kept] == []
    home = Path(stack.env["OUMI_FLOWS_HOME"])
    assert [one for one in secrets if one in database_text(home)] == []
    assert [path for path in files_with(home, secrets) if "/private-envs/" not in path] == []


async def _use(stack: Stack, folder: Path, token: str) -> list[Any]:
    """Run a job, a pipeline and a sweep as a client that has a token; return all answers."""
    given = {"config_path": "job.yaml"}
    place = {"client_cwd": str(folder), "dry_run": False}
    async with mcp_session(replace(stack, env={**stack.env, "HF_TOKEN": token})) as session:
        job = {**given, "envs": {"PROOF": str(folder / "job")}}
        secret = {"DB_PASSWORD": PASSWORD}
        step = {"name": "a", **given, "envs": {"PROOF": str(folder / "step"), **secret}}
        space = {"envs.DB_PASSWORD": [PASSWORD]}
        trial = {**given, "envs": {"PROOF": str(folder / "trial")}, "space": space}
        answers = [
            await session.call("run_oumi_job", **job, **place),
            await session.call("run_pipeline", steps=[step], **place),
            await session.call("run_sweep", sweep={**trial, "metric": "score"}, **place),
        ]
        return answers + [await _follow(session, answer["job_id"]) for answer in answers]


async def _follow(session: Session, job_id: str) -> list[Any]:
    session.submitted.append(job_id)
    ended = await session.wait(job_id)
    assert ended["state"] == "succeeded", ended
    parts: list[dict[str, Any]] = ended["parts"] or []
    ids = [job_id, *(str(part["job_id"]) for part in parts)]
    logs = [await session.call("get_job_logs", job_id=one, lines=2000) for one in ids]
    return [ended, *logs, *[await session.call("get_job_status", job_id=one) for one in ids]]
