"""The command that compares two jobs."""

import typer
from rich.text import Text

from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, JobId
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Backend
from mcp_server.services.jobs.comparing import Comparison

_NOT_SET = "-"


class CompareCommand:
    """The method is the command.

    Args:
        backend: What it works on.
        output: Where it writes.
    """

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output

    def add_to(self, app: typer.Typer) -> None:
        """Add the command to `app`."""
        app.command("compare", rich_help_panel="Jobs")(self.compare)

    def compare(self, *, a: JobId, b: JobId, as_json: AsJson = False) -> Exit:
        """Compare two jobs: request, config, code, packages, data, results."""
        comparison = self._backend.call(lambda jobs: jobs.compare(a, b))
        if as_json:
            self._output.json(comparison)
        else:
            self._show(comparison)
        return Exit.OK

    def _show(self, comparison: Comparison) -> None:
        self._output.line(comparison.summary)
        differences = [*comparison.inputs, *comparison.results]
        if differences:
            self._output.table(
                ("what", comparison.a[:8], comparison.b[:8]),
                (
                    (Text(it.what), Text(it.a or _NOT_SET), Text(it.b or _NOT_SET))
                    for it in differences
                ),
            )
