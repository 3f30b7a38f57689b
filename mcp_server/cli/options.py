"""Arguments that several commands take, and what a person writes as `--set`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import click
import typer
from pydantic import TypeAdapter, ValidationError

from flows.configs.yaml_text import parse_yaml
from flows.errors import InvalidArgument
from flows.models import OverrideValue
from flows.states import JobState

AsJson = Annotated[
    bool, typer.Option("--json", help="Write JSON, as the MCP tools answer with it.")
]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Job id, unique prefix of it (8 or more characters), or name of a live job.",
        show_default=False,
    ),
]
Lines = Annotated[
    int, typer.Option("--lines", "-n", min=1, max=2000, help="Lines to write at most.")
]
Cursor = Annotated[
    str | None,
    typer.Option("--cursor", metavar="TEXT", help="Go on from next_cursor of an earlier answer."),
]

STATUSES: Final = ("all", "running", "completed", *sorted(set(JobState) - {JobState.RUNNING}))
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

_VALUE: Final[TypeAdapter[OverrideValue]] = TypeAdapter(OverrideValue)


def current_folder() -> Path:
    """The folder the command was started in.

    Raises:
        InvalidArgument: It has been removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InvalidArgument(
            "The current folder no longer exists", "Go to another folder"
        ) from error


def parse_overrides(texts: Iterable[str]) -> dict[str, OverrideValue]:
    """The overrides that ``--set KEY=VALUE`` gives; a value is read as YAML.

    Raises:
        InvalidArgument: One is not of that form, or its value is not one of YAML's plain ones.
        InvalidConfig: A value is not YAML.
    """
    overrides: dict[str, OverrideValue] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise InvalidArgument(
                f"--set {text!r} is not KEY=VALUE", "Write it as --set training.max_steps=60"
            )
        try:
            overrides[key] = _VALUE.validate_python(parse_yaml(value, f"--set {key}"))
        except ValidationError as error:
            raise InvalidArgument(
                f"--set {key} takes a text, a number, true, false, null or a list of them",
                "Set the keys below it one by one",
            ) from error
    return overrides


def bounded(option: str, text: str | None, limit: int) -> str | None:
    """`text`, if it is not longer than `limit` characters.

    Raises:
        InvalidArgument: It is.
    """
    if text is not None and len(text) > limit:
        raise InvalidArgument(f"{option} is {len(text)} characters long", f"Use at most {limit}")
    return text
