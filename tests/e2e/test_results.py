"""What came out of a real training, listed and copied through a real MCP client."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import REPOSITORY, Stack
from tests.support.trees import digests

pytestmark = pytest.mark.engine

TINY = REPOSITORY / "examples" / "tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("data", "runs"))
    make = [sys.executable, "make_tiny.py", "data"]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    return folder


async def collected(session: Session, job_id: str, into: Path, *what: str) -> dict[str, Any]:
    """The end of a copy."""
    copy = await session.call("collect_results", job_id=job_id, into=str(into), what=list(what))
    return await session.wait(copy["job_id"])


async def test_a_training_is_listed_and_copied_with_equal_checksums(
    stack: Stack, tiny: Path, tmp_path: Path
) -> None:
    output = tiny / "runs" / "train"
    async with mcp_session(stack) as session:
        job_id = await session.submit(tiny / "train.yaml")
        ended = await session.wait(job_id)
        assert ended["state"] == "succeeded", ended
        found = await session.call("get_job_results", job_id=job_id)
        print(found)
        assert [(one["step"], one["whole"]) for one in found["checkpoints"]] == [
            (60, True),
            (40, True),
            (20, True),
        ]
        best = found["best_checkpoint"]
        assert (best["metric"], best["step"]) == ("eval_loss", 60)
        assert [one["step"] for one in found["checkpoints"] if one["best"]] == [60]
        (model,) = found["models"]
        assert (model["path"], model["kind"]) == (str(output), "full")

        into = tmp_path / "copy"
        end = await collected(session, job_id, into)
        assert end["state"] == "succeeded", end
        assert end["progress"]["percent"] == 100
        theirs, ours = digests(output), digests(into)
        manifest = ours.pop(f"oumi-flows-{job_id[:8]}.sha256")
        assert manifest
        assert ours == theirs
        check = ["sha256sum", "-c", "--quiet", f"oumi-flows-{job_id[:8]}.sha256"]
        await asyncio.to_thread(subprocess.run, check, cwd=into, check=True)
        listed = await session.call("list_jobs", limit=5)
        assert "collect" in [row["command"] for row in listed["jobs"]]
        logs = await session.call("get_job_logs", job_id=end["job_id"])
        assert "every checksum is equal" in logs["logs"]
