"""The commands for the engine."""

from typing import Annotated

import typer
from pydantic import Field

from flows.core.models import Value
from mcp_server.cli import views
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Backend
from mcp_server.engine import EngineFinding, EngineSeverity, EngineStatus


class Diagnosis(Value):
    """What `doctor --json` writes."""

    summary: str = Field(description="One line a person can read.")
    findings: list[EngineFinding]


class EngineCommands:
    """The methods are the commands.

    Args:
        backend: What they work on.
        output: Where they write.
    """

    def __init__(self, backend: Backend, output: Output) -> None:
        self._backend = backend
        self._output = output

    def add_to(self, app: typer.Typer) -> None:
        """Add the commands to `app`."""
        for name, method in (
            ("up", self.up),
            ("down", self.down),
            ("status", self.status),
            ("doctor", self.doctor),
        ):
            app.command(name, rich_help_panel="The engine")(method)

    def up(
        self,
        *,
        wait: Annotated[
            bool, typer.Option("--wait", help="Return only when the worker has loaded Oumi.")
        ] = False,
        keep: Annotated[
            bool,
            typer.Option("--keep", help="Stay, and restart what ends, until `oumi-flows down`."),
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start the Prefect server and the worker, unless they run.

        Returns as soon as jobs are accepted. With PREFECT_API_URL set, that server is used and
        only a worker is started.
        """
        with self._output.steps() as report:
            status = self._backend.engine.up(wait_for_worker=wait, report=report)
        self._show(status, as_json=as_json)
        if keep:
            self._backend.engine.keep()
        return Exit.OK

    def down(self, *, as_json: AsJson = False) -> Exit:
        """Stop the worker and the Prefect server. Running jobs keep running."""
        status = self._backend.engine.down()
        if as_json:
            self._output.json(status)
        else:
            self._output.line("The engine is stopped. Running jobs keep running.")
        return Exit.OK

    def status(self, *, as_json: AsJson = False) -> Exit:
        """Show the state of the engine, and the address and log-in of the Prefect UI.

        Exits with 5 when something keeps jobs from running.
        """
        status = self._backend.engine.status()
        self._show(status, as_json=as_json)
        return Exit.ENGINE_UNAVAILABLE if status.problem else Exit.OK

    def doctor(self, *, as_json: AsJson = False) -> Exit:
        """Explain what is wrong with the engine and how to fix it.

        Exits with 1 when something keeps jobs from running.
        """
        findings = self._backend.engine.doctor()
        wrong = [finding for finding in findings if finding.severity is EngineSeverity.ERROR]
        if as_json:
            summary = wrong[0].what if wrong else "Nothing keeps jobs from running"
            self._output.json(Diagnosis(summary=summary, findings=findings))
        else:
            views.show_findings(findings, self._output)
        return Exit.JOB_FAILED if wrong else Exit.OK

    def _show(self, status: EngineStatus, *, as_json: bool) -> None:
        if as_json:
            self._output.json(status)
        else:
            views.show_engine(status, self._output)
