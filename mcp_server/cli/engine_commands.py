"""The commands for the engine."""

from collections.abc import Callable
from typing import Annotated

import typer
from pydantic import Field

from flows.core.errors import OumiFlowsError
from flows.core.models import Value
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output
from mcp_server.engine import EngineFinding, EngineSeverity, EngineStatus


class Diagnosis(Value):
    """What `doctor --json` writes."""

    summary: str = Field(description="One line a person can read.")
    findings: list[EngineFinding]


class EngineCommands(Commands):
    """The methods are the commands."""

    panel = "The engine"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {
            "up": self.up,
            "down": self.down,
            "status": self.status,
            "doctor": self.doctor,
        }

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
        self._write(status, views.show_engine, as_json=as_json)
        if keep:
            self._backend.engine.keep()
        return Exit.OK

    def down(self, *, as_json: AsJson = False) -> Exit:
        """Stop the worker and the Prefect server. Running jobs keep running."""
        status = self._backend.engine.down()
        return self._write(status, _show_down, as_json=as_json)

    def status(self, *, as_json: AsJson = False) -> Exit:
        """Show the state of the engine, and the address and log-in of the Prefect UI.

        Exits with 5 when something keeps jobs from running.
        """
        status = self._backend.engine.status()
        self._write(status, views.show_engine, as_json=as_json)
        return Exit.ENGINE_UNAVAILABLE if status.problem else Exit.OK

    def doctor(self, *, as_json: AsJson = False) -> Exit:
        """Explain what is wrong with the engine and how to fix it.

        Exits with 1 when something keeps jobs from running.
        """
        findings = self._backend.engine.doctor()
        if not any(finding.severity is EngineSeverity.ERROR for finding in findings):
            findings = [*findings, self._try_a_command()]
        wrong = [finding for finding in findings if finding.severity is EngineSeverity.ERROR]
        if as_json:
            summary = wrong[0].what if wrong else "Nothing keeps jobs from running"
            self._output.json(Diagnosis(summary=summary, findings=findings))
        else:
            views.show_findings(findings, self._output)
        return Exit.JOB_FAILED if wrong else Exit.OK

    def _try_a_command(self) -> EngineFinding:
        """Do what the other commands do, in the way they do it."""
        try:
            self._backend.use(lambda services: services.jobs.list(limit=1))
        except OumiFlowsError as error:
            return EngineFinding(
                severity=EngineSeverity.ERROR,
                subject="Commands",
                what=error.what,
                fix=error.next_step,
            )
        return EngineFinding(
            severity=EngineSeverity.OK, subject="Commands", what="The list of jobs can be read"
        )


def _show_down(_: EngineStatus, output: Output) -> None:
    output.line("The engine is stopped. Running jobs keep running.")
