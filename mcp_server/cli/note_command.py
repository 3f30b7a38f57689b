"""The command that notes something about a job."""

from collections.abc import Callable
from typing import Annotated

import typer

from flows.core.errors import InvalidArgument
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, JobId


class NoteCommand(Commands):
    """The methods are the commands."""

    panel = "Jobs"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"note": self.note}

    def note(
        self,
        *,
        job_id: JobId,
        text: Annotated[
            str | None,
            typer.Argument(
                metavar="[TEXT]", help="Replaces the note; '' removes it.", show_default=False
            ),
        ] = None,
        tags: Annotated[
            list[str] | None,
            typer.Option("--tag", metavar="TAG", help="Replaces the tags; repeatable."),
        ] = None,
        no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove the tags.")] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Note something about a job, and tag it."""
        if tags and no_tags:
            raise InvalidArgument("--tag does not go with --no-tags", "Leave one of them out")
        wanted = [] if no_tags else tags or None
        noted = self._backend.use(
            lambda services: services.jobs.annotate(job_id, note=text, tags=wanted)
        )
        return self._write(noted, views.show_summary, as_json=as_json)
