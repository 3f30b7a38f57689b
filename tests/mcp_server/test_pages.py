"""Every page that a text for models points to can be read over MCP."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from mcp.client import Client

from flows.core.settings import Settings
from mcp_server.server import Options, build_server, make_parts
from mcp_server.tools.guide import Topic
from tests.mcp_server.calls import ok
from tests.mcp_server.test_arguments import no_engine

ROOT = Path(__file__).parents[2]
_PAGE = re.compile(r"(?:guidance://|docs/|(?<=topic ))[a-z][\w-]*(?:\.md)?")
_RESOURCE = re.compile(r"(?:guidance|jobs)://[\w{}/-]+")


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """The texts of answers, errors and guides, with the files that they are in."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    for path in [*(ROOT / "mcp_server").rglob("*.md"), *(ROOT / "flows").rglob("*.md")]:
        yield path.name, path.read_text(encoding="utf-8")
    for path in [*(ROOT / "mcp_server").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        if "cli" in path.parts:
            continue  # texts of the terminal name files of the documentation
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Docstrings are for developers; those of tools are read from the server.
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docs:
                yield path.name, str(node.value)


@pytest.fixture
def client(settings: Settings) -> Client:
    return Client(build_server(make_parts(settings, no_engine), Options()))


async def test_every_page_that_a_text_names_can_be_read(
    client: Client, texts: list[tuple[str, str]]
) -> None:
    async with client:
        tools = (await client.list_tools()).tools
        resources = (await client.list_resources()).resources
        prompts = (await client.list_prompts()).prompts
        served = [(one.name, one.description or "") for one in (*tools, *resources, *prompts)]
        named = {(page, file) for file, text in [*texts, *served] for page in _PAGE.findall(text)}
        assert {page for page, _ in named} >= {"guidance://cloud-launch", "guidance://mle-eval"}
        for page, file in sorted(named):
            if page.startswith("guidance://"):
                (content,) = (await client.read_resource(page)).contents
                assert len(getattr(content, "text", "")) > 500, (page, file)
            elif page.startswith("docs/"):
                pytest.fail(f"{file} names {page}, which no client can read: name a guide")


async def test_a_guide_is_read_as_a_resource_and_by_the_tool(client: Client) -> None:
    async with client:
        uris = {str(one.uri) for one in (await client.list_resources()).resources}
        for topic in filter(None, get_args(Topic)):
            (content,) = (await client.read_resource(f"guidance://{topic}")).contents
            answer = await ok(client, "get_started", topic=topic)
            assert getattr(content, "text", "") == answer["guide"]
            assert f"guidance://{topic}" in uris


async def test_resources_that_texts_name_are_served(
    client: Client, texts: list[tuple[str, str]]
) -> None:
    async with client:
        templates = (await client.list_resource_templates()).resource_templates
        served = {str(one.uri) for one in (await client.list_resources()).resources}
        served |= {one.uri_template for one in templates}
        found = {uri for _, text in texts for uri in _RESOURCE.findall(text)}
    assert "jobs://running" in found
    assert {uri.rstrip(".:") for uri in found} - served == set()
