"""What a person sees and presses in the Prefect UI of the embedded server."""

from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.async_api import Page

from tests.support.browser import log_in, needs_chromium, opened
from tests.support.jobs import GREETING, job_config
from tests.support.mcp_client import mcp_session
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.ui, needs_chromium]

# What a trainer prints: its progress bar, then its metrics.
TRAINS = f"""\
echo "{GREETING}"
echo " 70%|#######   | 7/10 [00:07<00:03, 1.00it/s]"
echo "{{'loss': '1.25', 'step': 7}}"
"""
STAYS = """\
echo $$ > pid
sleep 600 &
wait
"""


async def choose(page: Page, item: str) -> None:
    """Choose `item` from the run's menu and confirm."""
    await page.get_by_role("button", name="Open menu").click()
    await page.get_by_role("menuitem", name=item, exact=True).click()
    dialog = page.get_by_role("alertdialog").or_(page.get_by_role("dialog"))
    await dialog.get_by_role("button").last.click()
    await dialog.wait_for(state="hidden")


async def test_a_jobs_link_leads_through_the_login_to_its_states_logs_and_progress(
    stack: Stack, tmp_path: Path, screenshots: Path
) -> None:
    async with mcp_session(stack) as mcp:
        job_id = await mcp.submit(job_config(tmp_path, "trains", TRAINS))
        job = await mcp.wait(job_id)
    assert job["state"] == "succeeded"

    called: set[str | None] = set()
    faults: list[str] = []
    async with opened(job["url"]) as page:
        page.on("request", lambda request: called.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: faults.append(str(error)))
        await log_in(page, stack.connection)
        await page.get_by_text(job["name"]).first.wait_for()
        await page.get_by_text("Completed", exact=True).first.wait_for()
        await page.get_by_text(GREETING, exact=True).wait_for()
        await page.screenshot(path=screenshots / "run.png")

        await page.get_by_role("tab", name="Artifacts").click()
        await page.get_by_text("step 7 of 10, loss 1.25").wait_for()
        await page.screenshot(path=screenshots / "progress.png")

        await page.get_by_role("link", name="Runs", exact=True).first.click()
        await page.get_by_text(job["name"]).first.wait_for()
        await page.get_by_text("command:job").first.wait_for()
        await page.screenshot(path=screenshots / "runs.png")
    # Addresses of blobs have none. The policy lets no request to an analytics host out.
    assert called - {""} == {urlsplit(stack.connection.api_url).netloc}
    assert faults == []


async def test_cancel_and_retry_pressed_in_the_ui_do_what_they_say(
    stack: Stack, tmp_path: Path, screenshots: Path
) -> None:
    pid_file = tmp_path / "pid"

    def running_pid() -> int | None:
        """The job's shell, once it has said who it is."""
        text = pid_file.read_text() if pid_file.exists() else ""
        return int(text) if text.endswith("\n") else None

    async with mcp_session(stack) as mcp:
        config = job_config(tmp_path, "stays", f"cd '{tmp_path}'\n{STAYS}")
        job_id = await mcp.submit(config)
        job = await mcp.wait(job_id, "running")
        first = await eventually(running_pid)
        children = psutil.Process(first).children()

        async with opened(job["url"]) as page:
            await log_in(page, stack.connection)
            await page.get_by_text("Running", exact=True).first.wait_for()
            await choose(page, "Cancel")
            cancelled = await mcp.wait(job_id)
            assert (cancelled["state"], cancelled["termination_reason"]) == (
                "cancelled",
                "user_cancelled",
            )
            assert not any(process.is_running() for process in children)
            assert not psutil.pid_exists(first)
            await page.get_by_text("Cancelled", exact=True).first.wait_for()
            await page.screenshot(path=screenshots / "cancelled.png")

            pid_file.unlink()
            await choose(page, "Retry")
            second = await eventually(running_pid, timeout=30)
            again = await mcp.wait(job_id, "running")
            assert (again["job_id"], again["state"], again["attempt"]) == (job_id, "running", 2)
            assert second != first
            await page.get_by_text("Running", exact=True).first.wait_for()
            await page.screenshot(path=screenshots / "retried.png")

        await mcp.call("cancel_job", job_id=job_id)
        assert (await mcp.wait(job_id))["state"] == "cancelled"
