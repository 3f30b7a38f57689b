"""The commands of a terminal, all but `mcp`: put together and run."""

import importlib.metadata
import os
from collections.abc import Sequence
from typing import Annotated, cast

import click
import typer

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.cli.backend import Backend
from mcp_server.cli.budget_command import BudgetCommand
from mcp_server.cli.cancel_command import CancelCommand
from mcp_server.cli.check_commands import CheckCommands
from mcp_server.cli.cluster_commands import ClusterCommands
from mcp_server.cli.compare_command import CompareCommand
from mcp_server.cli.completion import add_completion, answer, is_asked
from mcp_server.cli.config_commands import ConfigCommands
from mcp_server.cli.engine_commands import EngineCommands
from mcp_server.cli.exits import EXIT_CODES
from mcp_server.cli.family_commands import FamilyCommands
from mcp_server.cli.job_commands import JobCommands
from mcp_server.cli.machine_commands import MachineCommands
from mcp_server.cli.note_command import NoteCommand
from mcp_server.cli.output import Output
from mcp_server.cli.prune_command import PruneCommand
from mcp_server.cli.result_commands import ResultCommands
from mcp_server.cli.schedule_commands import ScheduleCommands
from mcp_server.cli.serve import serve
from mcp_server.cli.service_command import ServiceCommand
from mcp_server.cli.training_commands import TrainingCommands
from mcp_server.engine import Engine


def run_here(settings: Settings, *, arguments: Sequence[str]) -> int:
    """Run a command on this machine's engine.

    Raises:
        OumiFlowsError: It failed.
    """
    output = Output()
    backend = Backend(settings, Engine(settings, environ=os.environ), output)
    return run(build_app(backend, output, settings), arguments)


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        Its exit code.

    Raises:
        OumiFlowsError: It failed.
    """
    command = typer.main.get_command(app)
    if is_asked(os.environ):
        return answer(command)
    try:
        # Not `command.main`, which exits by itself with codes that mean something else here.
        with command.make_context("oumi-flows", list(arguments)) as context:
            return cast(int, command.invoke(context))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort as error:
        # What a prompt makes of Ctrl-C, or of input that has ended.
        raise KeyboardInterrupt from error
    except SystemExit as error:
        # Rich (15.0) exits with 1, a failed job's code, when what reads its output went away.
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "oumi-flows"
        raise InvalidArgument(error.format_message(), f"Run `{path} --help`") from error


def build_app(backend: Backend, output: Output, settings: Settings) -> typer.Typer:
    """Every command.

    Args:
        backend: What they work on.
        output: Where they write.
        settings: What a person can set.
    """
    app = typer.Typer(
        add_completion=False,
        help="Every Oumi job is a Prefect flow run. Start jobs, follow them, and serve MCP.",
        epilog=EXIT_CODES,
        context_settings={"help_option_names": ["--help", "-h"]},
    )

    def about(
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                is_eager=True,
                callback=_tell_version,
                help="Show the version and exit.",
            ),
        ] = False,
    ) -> None:
        pass

    def mcp(context: typer.Context) -> int:
        """Serve MCP, on standard input and output or over HTTP."""
        return serve(settings, arguments=context.args)

    app.callback()(about)
    jobs = JobCommands(backend, output)
    for commands in (
        jobs,
        FamilyCommands(backend, output, jobs),
        TrainingCommands(backend, output),
        ResultCommands(backend, output),
        ConfigCommands(backend, output),
        CheckCommands(backend, output),
        ScheduleCommands(backend, output),
        ClusterCommands(backend, output),
        CancelCommand(backend, output),
        CompareCommand(backend, output),
        NoteCommand(backend, output),
        BudgetCommand(backend, output),
        EngineCommands(backend, output),
        MachineCommands(backend, output),
        PruneCommand(backend, output),
        ServiceCommand(backend, output),
    ):
        commands.add_to(app)
    add_completion(app)
    app.command(
        "mcp",
        rich_help_panel="The MCP server",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(mcp)
    return app


def _tell_version(value: bool) -> None:  # noqa: FBT001 - typer's signature
    if value:
        typer.echo(f"oumi-flows {importlib.metadata.version('oumi-flows')}")
        raise typer.Exit
