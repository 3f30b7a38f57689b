"""A pipeline and a sweep of real Oumi jobs, through a real MCP client, and in the Prefect UI."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.async_api import Page
from rich.console import Console
from rich.table import Table

from tests.support.browser import log_in, needs_chromium, opened
from tests.support.mcp_client import Session, mcp_session
from tests.support.stack import REPOSITORY, Stack

pytestmark = [pytest.mark.nightly, pytest.mark.ui, needs_chromium]

TINY = REPOSITORY / "examples" / "tiny"


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny workload in a folder of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    for path in TINY.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    subprocess.run([sys.executable, "make_tiny.py", "data"], cwd=folder, check=True, timeout=300)
    return folder


async def to_its_end(mcp: Session, job_id: str) -> dict[str, Any]:
    while True:
        status = await mcp.call("wait_for_job", job_id=job_id, timeout_seconds=60)
        if status["is_done"]:
            return status


def show(status: dict[str, Any]) -> None:
    """Print what a status says of the parts."""
    table = Table(title=status["summary"])
    for column in ("name", "state", "value", "note", "job_id"):
        table.add_column(column)
    for part in status["parts"]:
        table.add_row(*(str(part[c.header]) for c in table.columns))
    Console(width=200).print(table)


async def open_table(page: Page, status: dict[str, Any]) -> None:
    """From the run's artifacts to what its table holds."""
    await page.get_by_text(f"parts-{status['job_id']}").click()
    await page.locator("a[href*='/artifacts/artifact/']").first.click()


@pytest.mark.timeout(1800)
async def test_a_pipeline_trains_evaluates_and_infers(
    stack: Stack, workload: Path, screenshots: Path
) -> None:
    async with mcp_session(stack) as mcp:
        given = {"pipeline_path": "pipeline.yaml", "client_cwd": str(workload)}
        plan = await mcp.call("run_pipeline", **given)
        assert [step["after"] for step in plan["steps"]] == [[], ["train"], ["evaluate", "train"]]
        started = await mcp.call("run_pipeline", **given, dry_run=False)
        status = await to_its_end(mcp, started["job_id"])
        show(status)
    assert status["state"] == "succeeded", status
    assert [part["state"] for part in status["parts"]] == ["succeeded"] * 3
    assert status["parts"][1]["note"].startswith("exact_match 0.")
    answers = (workload / "runs/pipeline/answers.jsonl").read_text().splitlines()
    assert len(answers) == 8

    async with opened(status["url"]) as page:
        await log_in(page, stack.connection)
        await page.get_by_text("Completed", exact=True).first.wait_for()
        await page.get_by_text("evaluate").first.wait_for()
        await page.screenshot(path=screenshots / "pipeline.png")
        await page.get_by_role("tab", name="Artifacts").click()
        await page.get_by_text("Pipeline tiny").first.wait_for()
        await page.screenshot(path=screenshots / "pipeline-artifacts.png")
        await open_table(page, status)
        await page.get_by_text("exact_match").first.wait_for()
        await page.screenshot(path=screenshots / "pipeline-table.png")


@pytest.mark.timeout(3600)
async def test_a_sweep_of_twelve_trials_ranks_ten_when_two_fail(
    stack: Stack, workload: Path, screenshots: Path
) -> None:
    sweep = yaml.safe_load((workload / "sweep.yaml").read_text())
    # No optimizer takes a negative learning rate, which no check of a config finds.
    sweep["space"]["training.learning_rate"][-1] = -1.0
    async with mcp_session(stack) as mcp:
        given = {"sweep": sweep, "client_cwd": str(workload)}
        assert (await mcp.call("run_sweep", **given))["trials"] == 12
        started = await mcp.call("run_sweep", **given, dry_run=False)
        status = await to_its_end(mcp, started["job_id"])
        show(status)
    assert status["state"] == "succeeded", status
    states = [part["state"] for part in status["parts"]]
    assert states == ["succeeded"] * 10 + ["failed"] * 2
    values = [part["value"] for part in status["parts"][:10]]
    assert values == sorted(values)
    assert all("learning_rate=-1" in part["note"] for part in status["parts"][10:])

    async with opened(status["url"]) as page:
        await log_in(page, stack.connection)
        await page.get_by_text("Completed", exact=True).first.wait_for()
        await page.screenshot(path=screenshots / "sweep.png")
        await page.get_by_role("tab", name="Artifacts").click()
        await page.get_by_text("Sweep tiny-learning-rate").first.wait_for()
        await page.screenshot(path=screenshots / "sweep-artifacts.png")
        await open_table(page, status)
        await page.get_by_text("eval_loss").first.wait_for()
        await page.screenshot(path=screenshots / "leaderboard.png")
