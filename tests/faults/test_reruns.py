"""A real training that another job continues."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.job_driver import JobDriver
from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import REPOSITORY, Stack

pytestmark = [pytest.mark.engine, pytest.mark.slow]


async def until_done(session: Session, job_id: str) -> dict[str, Any]:
    return await session.call("wait_for_job", job_id=job_id, timeout_seconds=80)


async def test_a_training_goes_on_from_its_last_checkpoint_to_the_new_total(
    jobs: JobDriver, stack: Stack
) -> None:
    for name in ("make_tiny.py", "train.yaml"):
        shutil.copy(REPOSITORY / "examples" / "tiny" / name, jobs.folder)
    make = [sys.executable, "make_tiny.py", "data"]
    await asyncio.to_thread(subprocess.run, make, cwd=jobs.folder, check=True, capture_output=True)
    # Transformers goes on with the steps of logging and saving that the checkpoint names.
    steps = {"training.max_steps": 6, "training.save_steps": 3, "training.logging_steps": 1}
    async with mcp_session(stack) as session:
        source = await session.submit(jobs.folder / "train.yaml", overrides=steps)
        ended = await until_done(session, source)
        assert ended["state"] == "succeeded", ended
        before = sorted(path for path in jobs.folder.rglob("checkpoint-*"))
        (jobs.folder / "train.yaml").unlink()

        given = {"from_job": source, "overrides": {"training.max_steps": "+4"}}
        job = await session.call("run_oumi_job", **given, dry_run=False)
        session.submitted.append(job["job_id"])
        ended = await until_done(session, job["job_id"])
        metrics = await session.call("get_job_metrics", job_ids=[job["job_id"]], keys=["loss"])

    assert (ended["state"], ended["resumed_from_step"]) == ("succeeded", 6), ended
    (loss,) = metrics["jobs"][0]["keys"]
    assert [step for step, _ in loss["series"]] == [7, 8, 9, 10]
    assert ended["output_dir"] == job["output_dir"]
    state = Path(job["output_dir"]) / "checkpoint-10" / "trainer_state.json"
    assert json.loads(state.read_text())["global_step"] == 10
    own = Path(job["output_dir"])
    left = [path for path in jobs.folder.rglob("checkpoint-*") if own not in path.parents]
    assert sorted(left) == before
