"""docs/cli.md says what the commands take; the text of its tables is the help's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import click
import typer

from flows.core.settings import Settings
from mcp_server.cli.exits import MEANING
from mcp_server.cli.output import Output
from mcp_server.cli.serve import make_parser
from mcp_server.cli.terminal import build_app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands() -> Mapping[str, click.Command]:
    group = typer.main.get_command(build_app(cast(Any, None), Output(), Settings()))
    assert isinstance(group, click.Group)
    return group.commands


def section(command: click.Command) -> str:
    """What the page says of a command: usage, first line of the help, and its options."""
    arguments = [p.make_metavar() for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join(["oumi-flows", command.name or "", *arguments])
    options = [p for p in command.params if isinstance(p, click.Option) and p.name != "as_json"]
    rows = [f"| {names(option)} | {meaning(option)} |" for option in options]
    table = ["", "| option | |", "|---|---|", *rows] if rows else []
    about = " ".join((command.help or "").split("\n\n")[0].split())
    return "\n".join([f"### `{usage}`", "", about, *table])


def names(option: click.Option) -> str:
    metavar = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    metavar = re.sub(r" INTEGER RANGE", " N", metavar)
    spelled = [*option.opts, *option.secondary_opts]
    return ", ".join(f"`{name}{metavar if name.startswith('--') else ''}`" for name in spelled)


def meaning(option: click.Option) -> str:
    default = option.default if option.default not in (None, False, "") else None
    return (option.help or "") + (f" Default: {default}." if default is not None else "")


def test_the_page_has_each_command_with_its_options_as_the_help_has_them() -> None:
    for command in commands().values():
        if command.name != "mcp":
            expected = section(command)
            assert expected in PAGE, f"docs/cli.md should have:\n\n{expected}\n"


def test_every_command_but_mcp_takes_json_as_the_page_says() -> None:
    assert "Every command but `mcp` and `completion` takes" in PAGE
    taking = {name for name, c in commands().items() if any(p.name == "as_json" for p in c.params)}
    assert taking == set(commands()) - {"mcp", "completion"}


def test_the_page_has_no_command_that_does_not_exist() -> None:
    headed = re.findall(r"^### `oumi-flows (\S+?)[ `]", PAGE, re.MULTILINE)
    assert sorted(headed) == sorted(commands())


def test_the_page_has_each_option_of_the_mcp_command_and_no_other() -> None:
    _, _, after = PAGE.partition("### `oumi-flows mcp`")
    shown = set(re.findall(r"^\| `(--[a-z-]+)", after.partition("\n##")[0], re.MULTILINE))
    taken = set(re.findall(r"--[a-z-]+", make_parser().format_usage()))
    assert shown == taken


def test_the_page_has_each_exit_code_with_its_meaning() -> None:
    rows = [f"| {code:d} | {words} |" for code, words in MEANING.items()]
    assert "\n".join(rows) in PAGE
