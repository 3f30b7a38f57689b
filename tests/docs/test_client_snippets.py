"""What the documentation tells people to paste into their client's configuration."""

import json
import re
from typing import Any

import pytest

from mcp_server.transports.http import HTTP_PATH
from mcp_server.transports.serving import DEFAULT_PORT
from tests.support.stack import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = [README, *sorted(REPOSITORY.glob("docs/*.md"))]
_JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
SNIPPETS = _JSON.findall(README.read_text())


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_client_snippet_is_json_that_starts_the_server(snippet: str) -> None:
    config: dict[str, Any] = json.loads(snippet)
    servers = config.get("mcpServers") or config["servers"]
    assert servers["oumi-flows"]["command"].endswith("/.venv/bin/oumi-flows")
    assert servers["oumi-flows"]["args"] == ["mcp"]


@pytest.mark.parametrize(
    "snippet",
    _JSON.findall((REPOSITORY / "docs/operating.md").read_text()),
    ids=["Cursor", "VS Code"],
)
def test_a_client_snippet_for_http_carries_the_token(snippet: str) -> None:
    config: dict[str, Any] = json.loads(snippet)
    servers = config.get("mcpServers") or config["servers"]
    assert servers["oumi-flows"]["url"].endswith(f":{DEFAULT_PORT}{HTTP_PATH}")
    assert servers["oumi-flows"]["headers"]["Authorization"].startswith("Bearer ${")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_of_a_page_leads_to_a_file(page: Any) -> None:
    missing = [
        link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()
    ]
    assert missing == []
