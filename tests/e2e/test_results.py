"""What came out of a real training, listed and copied through a real MCP client."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import REPOSITORY, Stack
from tests.support.trees import digests
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

TINY = REPOSITORY / "examples" / "tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("data", "runs"))
    make = [sys.executable, "make_tiny.py", "data"]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    return folder


async def over(session: Session, job_id: str) -> dict[str, Any]:
    """The status of a job once it has ended."""

    async def look() -> dict[str, Any] | None:
        status = await session.wait(job_id)
        return status if status["is_done"] else None

    return await eventually(look, timeout=300)


async def collected(session: Session, job_id: str, into: Path, *what: str) -> dict[str, Any]:
    """The end of a copy."""
    copy = await session.call("collect_results", job_id=job_id, into=str(into), what=list(what))
    return await over(session, copy["job_id"])


async def test_a_training_is_listed_and_copied_with_equal_checksums(
    stack: Stack, tiny: Path, tmp_path: Path
) -> None:
    output = tiny / "runs" / "train"
    async with mcp_session(stack) as session:
        job_id = await session.submit(tiny / "train.yaml")
        ended = await over(session, job_id)
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


SCRIPT = """
mkdir -p made
echo '{"answer": 1}' >made/rows.jsonl
echo ready
sleep 600
"""


async def test_results_of_a_job_are_there_while_it_runs_and_after_its_cancel(
    stack: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    config = folder / "job.yaml"
    config.write_text(yaml.safe_dump({"name": "writes", "run": SCRIPT, "working_dir": "."}))
    made = folder / "made" / "rows.jsonl"
    async with mcp_session(stack) as session:
        job_id = await session.submit(config)
        await session.wait(job_id, until="running")
        await eventually(made.exists, timeout=120)
        for state in ("running", "cancelled"):
            found = await session.call("get_job_results", job_id=job_id)
            assert [(one["path"], one["rows"]) for one in found["files"]] == [
                (str(made), ['{"answer": 1}'])
            ]
            assert f"({state})" in found["summary"]
            if state == "running":
                await session.call("cancel_job", job_id=job_id, force=True)
                await over(session, job_id)
        end = await collected(session, job_id, tmp_path / "copy")
        assert end["state"] == "succeeded", end
        assert (tmp_path / "copy" / "made" / "rows.jsonl").read_text() == made.read_text()
        made.write_text("another")
        refused = await session.client.call_tool(
            "collect_results", {"job_id": job_id, "into": str(tmp_path / "copy"), "what": ["made"]}
        )
        assert "made/rows.jsonl exists and differs" in str(refused.content)


async def test_a_copy_is_cancelled_as_every_job(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    config = folder / "job.yaml"
    # Without blocks on the disk, but its checksum takes long.
    script = "truncate -s 200G sparse.bin"
    config.write_text(yaml.safe_dump({"name": "big", "run": script, "working_dir": "."}))
    async with mcp_session(stack) as session:
        job_id = await session.submit(config)
        await over(session, job_id)
        given = {"job_id": job_id, "into": str(tmp_path / "copy")}
        copy = await session.call("collect_results", **given)
        again = await session.call("collect_results", **given)
        assert again["job_id"] == copy["job_id"]
        await session.wait(copy["job_id"], until="running")
        await session.call("cancel_job", job_id=copy["job_id"])
        end = await over(session, copy["job_id"])
        assert (end["state"], end["termination_reason"]) == ("cancelled", "user_cancelled")
        assert "goes on where this copy stopped" in end["message"]
        assert end["command"] == "collect"


async def test_a_script_that_trains_evaluates_and_infers_is_listed_with_all_of_it(
    stack: Stack, tiny: Path
) -> None:
    text = yaml.safe_load((tiny / "job.yaml").read_text())
    text["run"] += (
        "\noumi infer -c infer.yaml --model.model_name runs/job --output_path runs/job.jsonl\n"
    )
    config = tiny / "all.yaml"
    config.write_text(yaml.safe_dump(text))
    async with mcp_session(stack) as session:
        job_id = await session.submit(config)
        ended = await over(session, job_id)
        assert ended["state"] == "succeeded", ended
        found = await session.call("get_job_results", job_id=job_id)
        print(found)
        assert {one["step"] for one in found["checkpoints"]} == {20, 40, 60}
        assert [one["kind"] for one in found["models"]] == ["full"]
        assert found["scores"]
        kinds = {one["kind"]: one for one in found["files"]}
        assert kinds["inference"]["path"] == str(tiny / "runs" / "job.jsonl")
        assert kinds["inference"]["rows"]
