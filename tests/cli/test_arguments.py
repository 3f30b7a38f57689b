"""How the options of a command become the job that a use case takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel

from flows.core.errors import InvalidArgument
from flows.core.models import NotifyOn, Overlap, RetryCause
from mcp_server.cli.arguments import as_command
from mcp_server.cli.terminal import run
from mcp_server.declared_arguments import Argument, DeclaredField, Option, list_fields
from mcp_server.services.jobs.new_job import NewJob
from mcp_server.services.schedules.values import NewSchedule, Times


def run_command(command: Callable[..., int], arguments: tuple[str, ...]) -> None:
    app = typer.Typer()
    app.command()(as_command(command))
    run(app, arguments)


def job_of(*arguments: str) -> NewJob:
    """The job that a command with these arguments takes."""
    taken: list[NewJob] = []

    def take(*, new: NewJob) -> int:
        taken.append(new)
        return 0

    run_command(take, arguments)
    return taken[0]


def test_every_option_is_an_argument_of_the_job(folder: Path) -> None:
    job = job_of(
        *("job.yaml", "--command", "infer", "--job-name", "mine", "--cloud", "gcp"),
        *("--cluster-name", "big", "--max-retries", "3", "--retry-on", "timed_out"),
        *("--skip-preflight", "--set", "generation.seed=7", "--timeout-seconds", "60"),
        *("--notify", "https://example.org", "--notify-on", "failure", "--own-output"),
        *("--autostop-minutes", "30"),
    )
    assert job == NewJob(
        config_path="job.yaml",
        client_cwd=str(folder),
        command="infer",
        job_name="mine",
        cloud="gcp",
        cluster_name="big",
        skip_preflight=True,
        overrides={"generation.seed": 7},
        max_retries=3,
        retry_on=[RetryCause.TIMED_OUT],
        timeout_seconds=60,
        notify="https://example.org",
        notify_on=NotifyOn.FAILURE,
        own_output=True,
        autostop_minutes=30,
    )


def test_an_option_left_out_has_the_default_of_the_job(folder: Path) -> None:
    assert job_of("job.yaml") == NewJob(config_path="job.yaml", client_cwd=str(folder))


def test_a_schedule_takes_the_options_of_its_times_and_of_its_job(folder: Path) -> None:
    taken: list[NewSchedule] = []

    def take(*, new: NewSchedule) -> int:
        taken.append(new)
        return 0

    run_command(
        take,
        ("a.yaml", "--cron", "0 2 * * *", "--timezone", "Europe/Zurich", "--overlap", "queue",
         "--name", "nightly", "--set", "seed=7", "--autostop-minutes", "30"),
    )  # fmt: skip
    assert taken == [
        NewSchedule(
            times=Times(cron="0 2 * * *", timezone="Europe/Zurich"),
            schedule_name="nightly",
            overlap=Overlap.QUEUE,
            job=NewJob(
                config_path="a.yaml",
                client_cwd=str(folder),
                overrides={"seed": 7},
                autostop_minutes=30,
            ),
        )
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60", 60),
        ("1e-4", 1e-4),
        ("true", True),
        ("null", None),
        ("", None),
        ("yes sir", "yes sir"),
        ("a=b", "a=b"),
        ("'60'", "60"),
        ("2024-01-01", "2024-01-01"),
        ("[1, two, 3.5]", [1, "two", 3.5]),
    ],
)
def test_the_value_of_set_is_read_as_yaml(text: str, value: object) -> None:
    read = job_of("c.yaml", "-s", f"a.b={text}").overrides["a.b"]
    assert (read, type(read)) == (value, type(value))


TEXTS = [
    field
    for field in list_fields(NewJob)
    if field.words
    and not (field.argument.option and field.argument.option.positional)
    and "max_length" in field.argument.bounds
    and isinstance(field.default, str | None)
]


@pytest.mark.parametrize("field", TEXTS, ids=lambda field: field.name)
def test_what_is_longer_than_a_tool_takes_is_refused(field: DeclaredField) -> None:
    limit = int(field.argument.bounds["max_length"])
    with pytest.raises(InvalidArgument, match=f"{field.words} is {limit + 1} characters long"):
        job_of("c.yaml", field.words, "x" * (limit + 1))


class Hands(BaseModel):
    """A model with an argument of several types."""

    hands: Annotated[int | Literal["all"] | None, Argument("Hands to use.", Option())] = None


def test_a_value_of_several_types_is_read_as_the_one_it_fits() -> None:
    taken: list[object] = []

    def take(*, new: Hands) -> int:
        taken.append(new.hands)
        return 0

    for options in ((), ("--hands", "2"), ("--hands", "all")):
        run_command(take, options)
    assert taken == [None, 2, "all"]
    with pytest.raises(InvalidArgument, match="--hands: Input should be a valid integer"):
        run_command(take, ("--hands", "some"))
