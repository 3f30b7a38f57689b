"""Headless Chromium."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, async_playwright

from mcp_server.engine import Connection

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install it")


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Page]:
    """The page at `url`, in a browser that has never been anywhere."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            page = await browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(30_000)
            await page.goto(url)
            yield page
        finally:
            await browser.close()


async def log_in(page: Page, connection: Connection) -> None:
    """Give the Prefect UI the password that it asks for."""
    await page.locator("input[type=password]").fill(connection.auth_string or "")
    await page.get_by_role("button", name="Login").click()
