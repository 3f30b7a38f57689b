"""The command that compares two jobs."""

from collections.abc import Callable

from rich.text import Text

from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, JobId
from mcp_server.cli.output import Output
from mcp_server.services.jobs.comparing import Comparison

_NOT_SET = "-"


class CompareCommand(Commands):
    """The methods are the commands."""

    panel = "Jobs"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"compare": self.compare}

    def compare(self, *, a: JobId, b: JobId, as_json: AsJson = False) -> Exit:
        """Compare two jobs: request, config, code, packages, data, results."""
        comparison = self._backend.use(lambda services: services.jobs.compare(a, b))
        return self._write(comparison, _show, as_json=as_json)


def _show(comparison: Comparison, output: Output) -> None:
    output.line(comparison.summary)
    differences = [*comparison.inputs, *comparison.results]
    if differences:
        output.table(
            ("what", comparison.a[:8], comparison.b[:8]),
            ((Text(it.what), Text(it.a or _NOT_SET), Text(it.b or _NOT_SET)) for it in differences),
        )
