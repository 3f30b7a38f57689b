"""Completion of commands and options by a shell, with click's own scripts."""

import os
from collections.abc import Mapping
from typing import Annotated, Final

import click
import typer
from click.shell_completion import shell_complete

from mcp_server.cli.exits import Exit

VARIABLE: Final = "_OUMI_FLOWS_COMPLETE"
"""Environment variable by which a shell's function asks for completions."""
SHELLS: Final = ("bash", "zsh", "fish")
_PROGRAM: Final = "oumi-flows"


def is_asked(environ: Mapping[str, str]) -> bool:
    """Whether a shell started this process to complete a command line."""
    return bool(environ.get(VARIABLE))


def answer(command: click.Command) -> Exit:
    """Write the completions that the environment asks for."""
    code = shell_complete(command, {}, _PROGRAM, VARIABLE, os.environ[VARIABLE])
    return Exit.USAGE if code else Exit.OK


def add_completion(app: typer.Typer) -> None:
    """Add the command that writes a shell's script."""

    def completion(
        shell: Annotated[
            str,
            typer.Argument(
                metavar="SHELL", click_type=click.Choice(SHELLS), help="bash, zsh or fish."
            ),
        ],
    ) -> Exit:
        """Write the script by which a shell completes commands and options."""
        shell_complete(typer.main.get_command(app), {}, _PROGRAM, VARIABLE, f"{shell}_source")
        return Exit.OK

    app.command("completion", rich_help_panel="The shell")(completion)
