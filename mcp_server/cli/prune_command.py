"""The command that removes ended jobs and their files."""

from collections.abc import Callable
from typing import Annotated

import typer

from flows.core.errors import ConfirmationRequired
from flows.core.models import Pruned
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, Yes, agrees


class PruneCommand(Commands):
    """The methods are the commands."""

    panel = "The engine"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"prune": self.prune}

    def prune(
        self,
        *,
        older_than: Annotated[
            str,
            typer.Option(
                "--older-than",
                metavar="TIME",
                help="Those that ended before this ISO time, or 30d, 12h ago. Default: as "
                "OUMI_FLOWS_KEEP_DAYS says.",
                show_default=False,
            ),
        ] = "",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only count what would be removed.")
        ] = False,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Remove ended jobs with their logs. Models and checkpoints stay."""
        if dry_run or not yes:
            preview = self._prune(older_than, dry_run=True)
            if dry_run or not (preview.runs or preview.files):
                return self._write(preview, views.show_summary, as_json=as_json)
            self._output.note(preview.summary, style="red")
            if not agrees("Remove them?"):
                raise ConfirmationRequired(
                    "No job was removed", "Give --yes to remove them without a question"
                )
        removed = self._prune(older_than, dry_run=False)
        return self._write(removed, views.show_summary, as_json=as_json)

    def _prune(self, older_than: str, *, dry_run: bool) -> Pruned:
        return self._backend.use(lambda services: services.prune.prune(older_than, dry_run=dry_run))
