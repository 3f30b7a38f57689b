"""The command that cancels a job, or every job that matches a filter."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final

import typer

from flows.core.errors import ConfirmationRequired, InvalidArgument, JobAlreadyDone
from flows.core.states import JobState
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.following import Patience, watch
from mcp_server.cli.options import (
    AsJson,
    ModelPart,
    NamePart,
    OnCloud,
    Since,
    Status,
    Tag,
    Yes,
    agrees,
)
from mcp_server.cli.output import Output
from mcp_server.services.jobs.cancelling import CancelledJobs
from mcp_server.services.jobs.job_filter import JobFilter
from mcp_server.services.jobs.service import JobService

_PAUSE_SECONDS: Final = 1.0


class CancelCommand(Commands):
    """The methods are the commands."""

    panel = "Jobs"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"cancel": self.cancel}

    def cancel(
        self,
        *,
        job_id: Annotated[
            str,
            typer.Argument(metavar="[ID]", help="The job, as for `show`.", show_default=False),
        ] = "",
        all_jobs: Annotated[
            bool,
            typer.Option(
                "--all", help="Cancel every live job that matches the filters, after asking."
            ),
        ] = False,
        status: Status = "all",
        cloud: OnCloud = "",
        name: NamePart = "",
        tag: Tag = "",
        model: ModelPart = "",
        since: Since = "",
        yes: Yes = False,
        force: Annotated[
            bool, typer.Option("--force", help="Kill the job at once, without a grace period.")
        ] = False,
        wait: Annotated[
            bool, typer.Option("--wait", help="Return only when the job is gone.")
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Cancel a job, or every matching job with --all."""
        wanted = JobFilter.read(
            status=status, cloud=cloud, name=name, tag=tag, model=model, since=since
        )
        if bool(job_id) == all_jobs:
            raise InvalidArgument(
                "cancel takes the ID of a job, or --all", "Give one of the two, and not both"
            )
        if not all_jobs and wanted != JobFilter():
            raise InvalidArgument(
                "The filters of jobs go with --all", "Add --all or leave them out"
            )
        if all_jobs:
            return self._cancel_all(wanted, yes=yes, force=force, wait=wait, as_json=as_json)
        return self._cancel_one(job_id, force=force, wait=wait, as_json=as_json)

    def _cancel_one(self, job_id: str, *, force: bool, wait: bool, as_json: bool) -> Exit:
        status = self._backend.use(lambda services: services.jobs.cancel(job_id, force=force))
        if wait and not status.is_done:
            patience = Patience(self._output)
            gone = status.job_id
            status = self._backend.use(
                lambda services: watch(services.jobs, gone, show=lambda _: None, patience=patience)
            )
        if status.is_done and status.state is not JobState.CANCELLED:
            raise JobAlreadyDone(
                f"{status.name} ended before it could be cancelled, it is {status.state}",
                "There is nothing to cancel",
            )
        return self._write(status, views.show_change, as_json=as_json)

    def _cancel_all(
        self, wanted: JobFilter, *, yes: bool, force: bool, wait: bool, as_json: bool
    ) -> Exit:
        if not yes:
            preview = self._backend.use(lambda services: services.jobs.preview_cancel_all(wanted))
            if preview.matched:
                self._ask(preview)
        ended = self._backend.use(lambda services: services.jobs.cancel_all(wanted, force=force))
        if wait and not ended.done:
            left = replace(wanted, status="cancelling")
            self._backend.use(lambda services: _wait(services.jobs, wanted=left))
        self._write(ended, _show_cancelled, as_json=as_json)
        return Exit.OTHER if ended.failed else Exit.OK

    def _ask(self, preview: CancelledJobs) -> None:
        self._output.note(preview.summary, style="red")
        if not agrees(f"Cancel {preview.matched}?"):
            raise ConfirmationRequired(
                "No job was cancelled", "Give --yes to cancel them without a question"
            )


def _show_cancelled(ended: CancelledJobs, output: Output) -> None:
    output.line(ended.summary)
    for row in ended.jobs:
        if row.error:
            output.note(f"{row.name}: {row.error}", style="red")


async def _wait(jobs: JobService, *, wanted: JobFilter) -> None:
    """Wait until no job of a filter lives."""
    while True:
        if not (await jobs.preview_cancel_all(wanted)).matched:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
