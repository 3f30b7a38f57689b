"""What every group of commands has in common."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import typer
from pydantic import BaseModel

from mcp_server.cli.arguments import as_command
from mcp_server.cli.backend import Backend
from mcp_server.cli.exits import EXIT_CODES, Exit
from mcp_server.cli.output import Output

V = TypeVar("V", bound=BaseModel)


class Commands:
    """A group of commands.

    Args:
        backend: What they work on.
        output: Where they write.
    """

    panel: ClassVar[str]
    """Its heading in the help."""
    following: ClassVar[frozenset[str]] = frozenset()
    """Those whose exit code says how a job ended."""

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        raise NotImplementedError

    def add_to(self, app: typer.Typer) -> None:
        """Add the commands to `app`."""
        for name, method in self.methods().items():
            epilog = EXIT_CODES if name in self.following else None
            app.command(name, rich_help_panel=self.panel, epilog=epilog)(as_command(method))

    def _write(self, value: V, show: Callable[[V, Output], None], *, as_json: bool) -> Exit:
        """Write a result as JSON, or as `show` shows it to a person.

        Returns:
            The exit code of a command that is done.
        """
        if as_json:
            self._output.json(value)
        else:
            show(value, self._output)
        return Exit.OK
