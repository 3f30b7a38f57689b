"""The commands for what consists of several jobs."""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from mcp_server.cli import views
from mcp_server.cli.arguments import check_key, current_folder
from mcp_server.cli.backend import Backend
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.job_commands import JobCommands
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output
from mcp_server.services.assembly import Services
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

Submission = TypeVar("Submission", PipelineSubmission, SweepSubmission)


class FamilyCommands(Commands):
    """The methods are the commands.

    Args:
        backend: What they work on.
        output: Where they write.
        jobs: The commands for jobs, which follow these, too.
    """

    panel = "Jobs"

    def __init__(self, backend: Backend, output: Output, jobs: JobCommands) -> None:
        super().__init__(backend, output)
        self._jobs = jobs

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"pipeline": self.pipeline, "sweep": self.sweep}

    def pipeline(
        self,
        *,
        new: NewPipeline,
        idempotency_key: Key = None,
        dry_run: DryRun = False,
        follow: Follow = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Start jobs that depend on each other and write the pipeline's id.

        The other commands take this id, or that of one of its jobs, which `show` lists.
        """
        if dry_run:
            return self._plan(lambda it: it.pipelines.plan(new), show_steps, as_json=as_json)
        key = check_key(idempotency_key)
        return self._start(
            lambda it: it.pipelines.submit(new, idempotency_key=key), follow=follow, as_json=as_json
        )

    def sweep(
        self,
        *,
        new: NewSweep,
        idempotency_key: Key = None,
        dry_run: DryRun = False,
        follow: Follow = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Run a job with many values and write the sweep's id.

        `show` with this id has the leaderboard.
        """
        if dry_run:
            return self._plan(lambda it: it.sweeps.plan(new), show_values, as_json=as_json)
        key = check_key(idempotency_key)
        return self._start(
            lambda it: it.sweeps.submit(new, idempotency_key=key), follow=follow, as_json=as_json
        )

    def _plan(
        self,
        plan: Callable[[Services], Awaitable[Submission]],
        show: Callable[[Submission, Output], None],
        *,
        as_json: bool,
    ) -> Exit:
        return self._write(self._backend.use(plan, needs_engine=False), show, as_json=as_json)

    def _start(
        self,
        submit: Callable[[Services], Awaitable[PipelineSubmission | SweepSubmission]],
        *,
        follow: bool,
        as_json: bool,
    ) -> Exit:
        run = self._backend.use(submit)
        self._write(run, _show_start, as_json=as_json)
        return self._jobs.watch(job_id=run.job_id or "", as_json=as_json) if follow else Exit.OK


def _show_start(run: PipelineSubmission | SweepSubmission, output: Output) -> None:
    output.text(run.job_id or "")
    output.note(run.summary)


def show_steps(plan: PipelineSubmission, output: Output) -> None:
    """Show the steps of a pipeline that was planned."""
    output.line(plan.summary)
    output.table(
        ["STEP", "COMMAND", "CONFIG", "AFTER", "WHEN"],
        (
            map(Text, (it.name, it.command, _near(it.config_path), ", ".join(it.after), it.when))
            for it in plan.steps
        ),
        yielding=("CONFIG", "COMMAND", "WHEN", "AFTER"),
    )
    views.show_warnings(plan.warnings, output)


def show_values(plan: SweepSubmission, output: Output) -> None:
    """Show the first trials of a sweep that was planned."""
    output.line(plan.summary)
    if plan.first_values:
        keys = list(plan.first_values[0])
        output.table(
            ["TRIAL", *_headings(keys, output.width)],
            (
                [Text(str(number)), *(Text(views.number(values[key])) for key in keys)]
                for number, values in enumerate(plan.first_values, start=1)
            ),
        )
    views.show_warnings(plan.warnings, output)


def _near(path: str) -> str:
    """A path, from the current folder on if it is in there."""
    folder = f"{current_folder()}{os.sep}"
    return path.removeprefix(folder)


def _headings(keys: Sequence[str], width: int) -> list[str]:
    """Dotted keys, or their last parts where a terminal is too narrow for all and these differ."""
    short = [key.rpartition(".")[2] for key in keys]
    is_wide = len("  ".join(["TRIAL", *keys])) <= width
    return list(keys) if is_wide or len(set(short)) < len(short) else short
