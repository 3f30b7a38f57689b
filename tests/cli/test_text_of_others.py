"""Names, configs, logs and errors of others have no effect on a person's terminal."""

import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel
from rich.text import Text

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.cli.edge import run_guarded
from mcp_server.cli.output import Output
from mcp_server.inert_text import visible

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2Kx\x9b1A\u202eabc\u2066\r[bold]b[/] [link=http://e]l[/link]"


class Named(BaseModel):
    name: str


WRITERS: dict[str, Callable[[Output], None]] = {
    "line": lambda output: output.line(EVIL, style="red"),
    "note": lambda output: output.note(EVIL),
    "text": lambda output: output.text(EVIL),
    "rows": lambda output: output.rows([("model", EVIL)]),
    "table": lambda output: output.table([EVIL], [[Text(EVIL, "red")]]),
    "json": lambda output: output.json(Named(name=EVIL)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_whatever_writes_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS[name](Output())
    written = "".join(capsys.readouterr())
    assert visible(written) == written
    assert "[bold]b[/]" in written
    assert "[link=http://e]l[/link]" in written
    assert "202e" in written


def test_a_name_cannot_write_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.line("a\nsucceeded")
    output.rows([("model", "b\nsucceeded")])
    output.table(["JOB"], [[Text("c\nsucceeded")]])
    assert not any(line == "succeeded" for line in capsys.readouterr().out.splitlines())


def test_json_means_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    Output().json(Named(name=EVIL))
    assert json.loads(capsys.readouterr().out) == {"name": EVIL}


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_that_repeats_an_argument(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    def fail(_: Settings) -> int:
        raise InvalidArgument(f"no such option: {EVIL}\nsecond line", "Leave it out")

    run_guarded(fail, as_json=as_json)
    written = capsys.readouterr().err
    assert visible(written) == written
    assert written.count("\n") == 1


def test_a_log_for_a_program_is_what_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    Output().log("a\u200fb")
    assert capsys.readouterr().out == "a\u200fb\n"
