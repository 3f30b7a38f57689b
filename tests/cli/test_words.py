"""A terminal shows commands and options where a message names a tool or its argument."""

from pathlib import Path

import pytest

from benchmarks.tokens import listing
from mcp_server.cli.words import WORDS, in_terminal_words
from mcp_server.declared_arguments import list_fields
from mcp_server.services.jobs.new_job import NewJob

NO_COMMAND = {"get_docs", "get_started", "list_modules"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Fix it, or submit with skip_preflight", "Fix it, or submit with --skip-preflight"),
        ("as guidance://cloud-launch shows", "as docs/clouds.md shows"),
        ("see search_configs.", "see `oumi-flows configs`."),
        ("pre_flight_check (`oumi-flows check`) asks it", "`oumi-flows check` asks it"),
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
