"""The commands that check a config before it is launched."""

from collections.abc import Callable
from typing import Annotated

import click
import typer
from pydantic import TypeAdapter, ValidationError

from flows.core.configs.schema import ConfigType
from flows.core.errors import InvalidArgument
from flows.core.findings import ConfigValidation, Finding, Gpu, PreFlight, Severity
from flows.core.models import GpuCount
from flows.core.names import LOCAL_CLOUD
from mcp_server.cli.arguments import current_folder
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output

_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}
_TYPES = [config_type.value for config_type in ConfigType]
_GPUS: TypeAdapter[GpuCount | None] = TypeAdapter(GpuCount | None)
_Config = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="Oumi config (YAML).", click_type=click.Path()),
]


class CheckCommands(Commands):
    """The methods are the commands."""

    panel = "Configs"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"validate": self.validate, "check": self.check}

    def validate(
        self,
        *,
        config: _Config,
        task_type: Annotated[
            str | None,
            typer.Option(
                "--type",
                "-t",
                click_type=click.Choice(_TYPES),
                metavar="TYPE",
                help="Type of the config, such as training or job. Default: read from its keys.",
            ),
        ] = None,
        cloud: Annotated[str, typer.Option("--cloud", help="Where it will run.")] = LOCAL_CLOUD,
        as_json: AsJson = False,
    ) -> Exit:
        """Check a config by Oumi's schema and classes; exits with 2 if it is not valid."""
        folder = str(current_folder())
        validation = self._backend.use(
            lambda services: services.checks.validate(
                config, task_type=task_type, client_cwd=folder, cloud=cloud
            ),
            needs_engine=False,
        )
        self._write(validation, _show_validation, as_json=as_json)
        return Exit.OK if validation.valid else Exit.USAGE

    def check(
        self,
        *,
        config: _Config,
        cloud: Annotated[
            str, typer.Option("--cloud", help="Oumi cloud. Default: the one in the job config.")
        ] = "",
        gpus: Annotated[
            str | None,
            typer.Option(
                "--gpus",
                metavar="COUNT",
                help="GPUs of this machine for the job: a number, or all.",
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> Exit:
        """Look for everything that would make a job fail; exits with 2 if it finds something."""
        folder, count = str(current_folder()), _read_gpus(gpus)
        result = self._backend.use(
            lambda services: services.checks.pre_flight(
                config, client_cwd=folder, cloud=cloud, gpus=count
            ),
            needs_engine=False,
        )
        self._write(result, _show_pre_flight, as_json=as_json)
        return Exit.USAGE if result.blocking else Exit.OK


def _read_gpus(text: str | None) -> GpuCount | None:
    try:
        return _GPUS.validate_python(text)
    except ValidationError as error:
        raise InvalidArgument(
            f"--gpus {text!r} is no number of GPUs", "Give a number from 1, or all"
        ) from error


def _show_validation(validation: ConfigValidation, output: Output) -> None:
    output.line(validation.summary, style="green" if validation.valid else "bold red")
    _show([*validation.errors, *validation.warnings], output)


def _show_pre_flight(result: PreFlight, output: Output) -> None:
    output.line(result.summary, style="bold red" if result.blocking else "green")
    _show([*result.errors, *result.warnings], output)
    output.rows(_facts(result))


def _show(findings: list[Finding], output: Output) -> None:
    for finding in findings:
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        output.line(
            f"{finding.severity.upper():<8} {finding.code}: {finding.message}",
            style=_STYLE[finding.severity],
        )
        if place:
            output.line(f"         At: {place}")
        if finding.fix:
            output.line(f"         What to do: {finding.fix}")


def _gpu(gpu: Gpu) -> str:
    if gpu.memory_gb is None:
        return gpu.name
    free = "" if gpu.free_memory_gb is None else f", {gpu.free_memory_gb:g} free"
    return f"{gpu.name} ({gpu.memory_gb:g} GB{free})"


def _facts(result: PreFlight) -> list[tuple[str, str]]:
    hardware = result.hardware
    gpus = ", ".join(_gpu(gpu) for gpu in hardware.gpus[:8]) if hardware else ""
    groups = [result.paths, result.dataset_checks, result.repo_access]
    return [
        ("follows", ", ".join(result.followed_configs)),
        ("runs on", hardware.where if hardware else ""),
        ("GPUs", gpus or (hardware.accelerator_type if hardware else "")),
        *((name, status) for group in groups for name, status in group.items()),
        ("see also", ", ".join(result.suggested_configs)),
    ]
