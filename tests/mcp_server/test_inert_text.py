"""What text of others may do to a terminal: nothing."""

import json

import pytest

from mcp_server.inert_text import inert_json, one_line, visible

HARMFUL = {
    "\x1b]52;c;ZXZpbA==\x07": "\\x1b]52;c;ZXZpbA==\\x07",
    "\x1b[31mred\x1b[0m": "\\x1b[31mred\\x1b[0m",
    "\x9b2J": "\\x9b2J",
    "a\rb": "a\\rb",
    "a\x08b\x7f\x00": "a\\x08b\\x7f\\x00",
    "abc\u202etxt.exe": "abc\\u202etxt.exe",
    "\u2066a\u2069\u200f": "\\u2066a\\u2069\\u200f",
    "x\u200by\ufeff": "x\\u200by\\ufeff",
    "a\u2028b": "a\\u2028b",
    "hi\U000e0041": "hi\\U000e0041",
    "\ud800": "\\ud800",
}
HARMLESS = ["a\tb\nc", "é ü 日本 😀 👩\u200d👩\u200d👧", "[bold]x[/] 100%"]


@pytest.mark.parametrize(("text", "shown"), HARMFUL.items())
def test_what_would_act_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == one_line(text) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_everything_else_stays(text: str) -> None:
    assert visible(text) == text
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("text", [*HARMFUL, *HARMLESS])
def test_json_is_inert_and_means_the_same(text: str) -> None:
    inert = inert_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert visible(inert) == inert
    assert json.loads(inert) == {text: [text]}
