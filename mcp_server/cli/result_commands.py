"""The commands that show and copy what came out of a job."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from flows.core.file_names import expand_home
from flows.core.results.values import FoundCheckpoint, JobResults
from mcp_server.cli.arguments import current_folder
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson, JobId
from mcp_server.cli.output import Output
from mcp_server.services.results.collecting import StartedCollection

_UNITS = ("B", "kB", "MB", "GB", "TB")


class ResultCommands(Commands):
    """The methods are the commands."""

    panel = "Trainings"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"results": self.results, "collect": self.collect}

    def results(self, *, job_id: JobId, as_json: AsJson = False) -> Exit:
        """Show what came out of a job: checkpoints, models, scores and files."""
        found = self._backend.use(lambda services: services.results.read(job_id))
        return self._write(found, _show, as_json=as_json)

    def collect(
        self,
        *,
        job_id: JobId,
        into: Annotated[str, typer.Argument(metavar="INTO", help="Folder; made if it is missing.")],
        what: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[WHAT]...",
                help="models, checkpoints, best, scores, files, or a name or path that results "
                "lists. Default: everything.",
                show_default=False,
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> Exit:
        """Copy the results of a job to a folder, as a job of its own, and write its id."""
        # A relative folder starts from the current one, as everywhere in a terminal.
        folder = os.path.normpath(Path(current_folder()) / expand_home(into))
        started = self._backend.use(
            lambda services: services.collect.collect(job_id, folder, what or [])
        )
        return self._write(started, _show_start, as_json=as_json)


def _show(found: JobResults, output: Output) -> None:
    output.line(found.summary)
    best = found.best_checkpoint
    if best is not None:
        output.note(f"The best checkpoint is that of step {best.step}, by {best.source}.")
    rows = [
        *(("checkpoint", _checkpoint(one), one.bytes, one.path) for one in found.checkpoints),
        *(
            (" ".join(filter(None, [one.kind, "model"])), one.quantization, one.bytes, one.path)
            for one in found.models
        ),
        *((one.kind, "", one.bytes, one.path) for one in found.files),
    ]
    if rows:
        output.table(
            ("WHAT", "", "SIZE", "PATH"),
            (
                (Text(what), Text(note), Text(_size(size)), Text(path))
                for what, note, size, path in rows
            ),
        )
    if found.scores:
        output.table(
            ("TASK", "METRIC", "VALUE"),
            ((Text(it.task), Text(it.metric), Text(f"{it.value:.6g}")) for it in found.scores),
        )
    for file in found.files:
        if file.rows:
            output.line(f"{file.path} begins:", style="bold")
            output.text("\n".join(file.rows))


def _show_start(started: StartedCollection, output: Output) -> None:
    output.line(started.job_id)
    output.note(f"Copying into {started.into}; see oumi-flows watch {started.job_id[:8]}")


def _checkpoint(one: FoundCheckpoint) -> str:
    parts = (f"step {one.step}", "best" * one.best, "" if one.whole else "not whole")
    return ", ".join(filter(None, parts))


def _size(size: float) -> str:
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
