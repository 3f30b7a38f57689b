"""A terminal shows commands and options where a message names a tool or its argument."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client

from benchmarks.tokens import listing, server
from mcp_server.cli.words import WORDS, in_terminal_words
from mcp_server.declared_arguments import list_fields
from mcp_server.services.jobs.new_job import NewJob

ROOT = Path(__file__).parents[2]
SPOKEN = (
    "flows",
    "mcp_server/services",
    "mcp_server/catalog",
    "mcp_server/engine",
    "mcp_server/prefect_api",
    "mcp_server/cli",
    "mcp_server/docs_index",
)
"""Where texts come from that a terminal may show."""
NAME = re.compile(r"(?<![\w.])[a-z_]+(?![\w.])")
SERVER_ONLY = {ROOT / "mcp_server/services/docs.py"}
NO_COMMAND = {"get_docs", "get_started", "list_modules"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Fix it, or submit with skip_preflight", "Fix it, or submit with --skip-preflight"),
        ("as guidance://cloud-launch shows", "as docs/clouds.md shows"),
        ("see search_configs.", "see `oumi-flows configs`."),
        ("pre_flight_check (`oumi-flows check`) asks it", "`oumi-flows check` asks it"),
        ("demo is queued; job_id 7c459f95.", "demo is queued; id 7c459f95."),
        ("there is no key 'job_id'", "there is no key 'job_id'"),
        ("training.max_retries and a/job_name.yaml", "training.max_retries and a/job_name.yaml"),
    ],
)
def test_a_message_names_what_a_person_can_type(text: str, shown: str) -> None:
    assert in_terminal_words(text) == shown


async def test_each_tool_that_has_a_command_has_a_word(tmp_path: Path) -> None:
    tools = set(await listing(tmp_path))
    assert tools - set(WORDS) == NO_COMMAND


def test_each_argument_of_a_job_has_a_word_but_those_that_are_plain_words() -> None:
    offered = {field.name for field in list_fields(NewJob)}
    assert offered - set(WORDS) == {name for name in offered if "_" not in name}
    assert {WORDS[name] for name in offered & set(WORDS)} >= {"CONFIG", "--own-output"}
    assert "" not in WORDS.values()


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of a module that people may read, not its docstrings; values are an x."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    within = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [it.value if isinstance(it, ast.Constant) else "x" for it in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif (
            isinstance(node, ast.Constant)
            and " " in str(node.value)
            and id(node) not in docstrings | within
        ):
            yield node.lineno, str(node.value)


async def test_no_text_that_a_terminal_shows_is_in_the_words_of_the_server(tmp_path: Path) -> None:
    async with Client(server(tmp_path)) as client:
        tools = (await client.list_tools()).tools
    arguments = {name for tool in tools for name in tool.input_schema["properties"]}
    words = {tool.name for tool in tools} | {name for name in arguments if "_" in name}
    found = [
        f"{path.relative_to(ROOT)}:{line}: {shown}"
        for folder in SPOKEN
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path not in SERVER_ONLY
        for line, text in sentences(ast.parse(path.read_text()))
        if "\n" not in text and "{{" not in text  # no scripts and templates
        if (shown := in_terminal_words(text))
        and (
            words & set(re.findall(r"(?<![\w.])[a-z_]+(?![\w.])", shown)) or "guidance://" in shown
        )
    ]
    assert "\n".join(found) == ""
