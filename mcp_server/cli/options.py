"""Arguments that several commands take, and the parser of `--set`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import click
import typer
from pydantic import TypeAdapter, ValidationError

from flows.core.configs.yaml_text import parse_yaml
from flows.core.errors import InvalidArgument
from flows.core.models import NotifyOn, OverrideValue, RetryCause
from flows.core.states import JobState
from mcp_server.services.jobs.submitting import NewJob

AsJson = Annotated[
    bool, typer.Option("--json", help="Write JSON, as the MCP tools answer with it.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
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
Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="Oumi config: a recipe or a job config (YAML).")
]
CommandName = Annotated[
    str,
    typer.Option(
        "--command",
        "-c",
        help="Oumi command: train, analyze, synth, evaluate, infer, tune or quantize; "
        "ignored for a job config.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Replace a value of the config, as in training.max_steps=60; repeatable.",
    ),
]
JobName = Annotated[str | None, typer.Option("--job-name", help="Readable name of the job.")]
Cloud = Annotated[str, typer.Option("--cloud", help="Oumi cloud.")]
ClusterName = Annotated[
    str, typer.Option("--cluster-name", help="Cluster; empty: the cloud's default.")
]
MaxRetries = Annotated[
    int,
    typer.Option(
        "--max-retries",
        min=0,
        max=100,
        help="Extra attempts after preemption or a lost node.",
    ),
]
RetryOn = Annotated[
    list[RetryCause] | None,
    typer.Option("--retry-on", metavar="CAUSE", help="Extra cause to retry; repeatable."),
]
TimeoutSeconds = Annotated[
    float | None,
    typer.Option(
        "--timeout-seconds",
        min=1,
        metavar="N",
        help="Time limit of each attempt, which then ends as timed_out.",
    ),
]
Notify = Annotated[
    str | None,
    typer.Option(
        "--notify",
        metavar="RECEIVER",
        help="Receiver of a notification at the end: a URL, or a Prefect block, type/name.",
    ),
]
NotifyAt = Annotated[
    str,
    typer.Option(
        "--notify-on",
        click_type=click.Choice([on.value for on in NotifyOn]),
        metavar="WHEN",
        help="end: whenever it ends; failure: only if it failed or crashed.",
    ),
]
AutostopMinutes = Annotated[
    int | None,
    typer.Option(
        "--autostop-minutes",
        min=1,
        max=525_600,
        metavar="N",
        help="Stop the cloud's cluster after this many idle minutes.",
    ),
]
SkipPreflight = Annotated[
    bool, typer.Option("--skip-preflight", help="Start without the pre-flight checks.")
]
OwnOutput = Annotated[
    bool, typer.Option("--own-output", help="Write to a new folder below the config's output.")
]
Cursor = Annotated[
    str | None,
    typer.Option(
        "--cursor", metavar="TEXT", help="Continue from next_cursor of an earlier answer."
    ),
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

OnCloud = Annotated[str, typer.Option("--cloud", help="Only jobs on this cloud.")]
NamePart = Annotated[
    str, typer.Option("--name", metavar="TEXT", help="Only jobs whose name contains this.")
]

_VALUE: Final[TypeAdapter[OverrideValue]] = TypeAdapter(OverrideValue)


def agrees(question: str) -> bool:
    """Whether a person at the terminal says yes; False where there is none."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)


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
    """Parse the overrides of ``--set KEY=VALUE``; values are YAML.

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


def new_job(
    config: str,
    *,
    command: str,
    overrides: Iterable[str] | None,
    job_name: str | None,
    cloud: str,
    cluster_name: str,
    max_retries: int,
    retry_on: list[RetryCause] | None,
    timeout_seconds: float | None,
    notify: str | None,
    notify_on: str,
    autostop_minutes: int | None,
    skip_preflight: bool,
    own_output: bool,
) -> NewJob:
    """Build the job that the options describe, in the current folder.

    Raises:
        InvalidArgument: An option cannot be used.
        InvalidConfig: A value of `--set` is not YAML.
    """
    return NewJob(
        config_path=config,
        client_cwd=str(current_folder()),
        command=command,
        job_name=check_length("--job-name", job_name, 100),
        cloud=cloud,
        cluster_name=cluster_name,
        skip_preflight=skip_preflight,
        overrides=parse_overrides(overrides or ()),
        max_retries=max_retries,
        retry_on=retry_on or [],
        timeout_seconds=timeout_seconds,
        notify=check_length("--notify", notify, 2000),
        notify_on=NotifyOn(notify_on),
        autostop_minutes=autostop_minutes,
        own_output=own_output,
    )


def check_length(option: str, text: str | None, limit: int) -> str | None:
    """Return `text`, which has at most `limit` characters.

    Raises:
        InvalidArgument: It is longer.
    """
    if text is not None and len(text) > limit:
        raise InvalidArgument(f"{option} is {len(text)} characters long", f"Use at most {limit}")
    return text
