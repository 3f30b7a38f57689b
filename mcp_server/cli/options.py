"""Options that several commands take."""

import sys
from typing import Annotated, Final

import click
import typer

from flows.core.states import JobState

AsJson = Annotated[
    bool, typer.Option("--json", help="Write JSON, as the MCP tools answer with it.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Job id, unique prefix of it (8 or more characters), or name of a job.",
        show_default=False,
    ),
]
Lines = Annotated[
    int, typer.Option("--lines", "-n", min=1, max=2000, help="Lines to write at most.")
]
Cursor = Annotated[
    str | None,
    typer.Option(
        "--cursor", metavar="TEXT", help="Continue from next_cursor of an earlier answer."
    ),
]

STATUSES: Final = (
    "all",
    "running",
    "completed",
    *sorted(state.value for state in JobState if state is not JobState.RUNNING),
)
Status = Annotated[
    str,
    typer.Option(
        "--status",
        click_type=click.Choice(STATUSES),
        metavar="STATUS",
        help="all, running (every job not ended), completed (every job ended), or a state: "
        "scheduled, queued, pending, launching, retrying, cancelling, succeeded, failed, "
        "cancelled, crashed.",
    ),
]

OnCloud = Annotated[str, typer.Option("--cloud", help="Only jobs on this cloud.")]
NamePart = Annotated[
    str, typer.Option("--name", metavar="TEXT", help="Only jobs whose name contains this.")
]
Tag = Annotated[str, typer.Option("--tag", metavar="TAG", help="Only jobs with this tag.")]
ModelPart = Annotated[
    str, typer.Option("--model", metavar="TEXT", help="Only jobs whose model's name contains this.")
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="TIME", help="Only jobs since this ISO time, or for 2h, 3d."),
]


def agrees(question: str) -> bool:
    """Whether a person at the terminal says yes; False where there is none."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)
