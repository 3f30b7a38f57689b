"""The commands for what consists of several jobs."""

from typing import Annotated

import typer
from rich.text import Text

from flows.core.models import NotifyOn
from mcp_server.cli import views
from mcp_server.cli.exits import Exit
from mcp_server.cli.job_commands import JobCommands
from mcp_server.cli.options import AsJson, Notify, NotifyAt, check_length, current_folder
from mcp_server.cli.output import Output
from mcp_server.cli.ports import Backend
from mcp_server.services.families.pipelines import NewPipeline, PipelineSubmission
from mcp_server.services.families.sweeps import NewSweep, SweepSubmission

Key = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="The same key gives the same run."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the file, say what would run and start nothing.")
]
Follow = Annotated[
    bool, typer.Option("--watch/--detach", help="Follow it to its end, or only start it.")
]


class FamilyCommands:
    """The methods are the commands.

    Args:
        backend: What they work on.
        output: Where they write.
        jobs: The commands for jobs, which follow these, too.
    """

    def __init__(self, backend: Backend, output: Output, jobs: JobCommands) -> None:
        self._backend = backend
        self._output = output
        self._jobs = jobs

    def add_to(self, app: typer.Typer) -> None:
        """Add the commands to `app`."""
        app.command("pipeline", rich_help_panel="Jobs")(self.pipeline)
        app.command("sweep", rich_help_panel="Jobs")(self.sweep)

    def pipeline(
        self,
        *,
        file: Annotated[str, typer.Argument(metavar="FILE", help="Pipeline (YAML).")],
        notify: Notify = None,
        notify_on: NotifyAt = "end",
        idempotency_key: Key = None,
        dry_run: DryRun = False,
        follow: Follow = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start jobs that depend on each other and write the pipeline's id.

        The other commands take this id, or that of one of its jobs, which `show` lists.
        """
        new = NewPipeline(
            path=file,
            client_cwd=str(current_folder()),
            notify=check_length("--notify", notify, 2000),
            notify_on=NotifyOn(notify_on),
        )
        if dry_run:
            plan = self._backend.pipelines(lambda them: them.plan(new), needs_engine=False)
            if as_json:
                self._output.json(plan)
            else:
                self._show_steps(plan)
                views.show_warnings(plan.warnings, self._output)
            return Exit.OK
        key = check_length("--idempotency-key", idempotency_key, 200)
        started = self._backend.pipelines(lambda them: them.submit(new, idempotency_key=key))
        return self._report_start(started, follow=follow, as_json=as_json)

    def sweep(
        self,
        *,
        file: Annotated[str, typer.Argument(metavar="FILE", help="Sweep (YAML).")],
        notify: Notify = None,
        notify_on: NotifyAt = "end",
        idempotency_key: Key = None,
        dry_run: DryRun = False,
        follow: Follow = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Run a job with many values and write the sweep's id.

        `show` with this id has the leaderboard.
        """
        new = NewSweep(
            path=file,
            client_cwd=str(current_folder()),
            notify=check_length("--notify", notify, 2000),
            notify_on=NotifyOn(notify_on),
        )
        if dry_run:
            plan = self._backend.sweeps(lambda them: them.plan(new), needs_engine=False)
            if as_json:
                self._output.json(plan)
            else:
                self._show_values(plan)
                views.show_warnings(plan.warnings, self._output)
            return Exit.OK
        key = check_length("--idempotency-key", idempotency_key, 200)
        started = self._backend.sweeps(lambda them: them.submit(new, idempotency_key=key))
        return self._report_start(started, follow=follow, as_json=as_json)

    def _report_start(
        self, run: PipelineSubmission | SweepSubmission, *, follow: bool, as_json: bool
    ) -> Exit:
        if as_json:
            self._output.json(run)
        else:
            self._output.text(run.job_id or "")
            self._output.note(run.summary)
        return self._jobs.watch(job_id=run.job_id or "", as_json=as_json) if follow else Exit.OK

    def _show_steps(self, plan: PipelineSubmission) -> None:
        self._output.line(plan.summary)
        self._output.table(
            ["STEP", "COMMAND", "CONFIG", "AFTER", "WHEN"],
            (
                map(Text, (it.name, it.command, it.config_path, ", ".join(it.after), it.when))
                for it in plan.steps
            ),
        )

    def _show_values(self, plan: SweepSubmission) -> None:
        self._output.line(plan.summary)
        if plan.first_values:
            keys = list(plan.first_values[0])
            self._output.table(
                ["TRIAL", *keys],
                (
                    [Text(str(number)), *(Text(views.number(values[key])) for key in keys)]
                    for number, values in enumerate(plan.first_values, start=1)
                ),
            )
