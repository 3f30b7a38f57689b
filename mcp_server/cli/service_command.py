"""The command for the service that keeps the engine up."""

import os
from collections.abc import Callable
from typing import Annotated

import click
import typer
from pydantic import Field

from flows.core.models import Value
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.engine.boot_service import service_here


class ServiceChange(Value):
    """What `service --json` writes."""

    summary: str = Field(description="One line a person can read.")
    path: str
    content: str


class ServiceCommand(Commands):
    """The methods are the commands."""

    panel = "The engine"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"service": self.service}

    def service(
        self,
        *,
        action: Annotated[
            str,
            typer.Argument(
                metavar="install|remove|show",
                click_type=click.Choice(["install", "remove", "show"]),
                help="What to do.",
            ),
        ],
        as_json: AsJson = False,
    ) -> Exit:
        """Let systemd or launchd start the engine by itself and keep it up."""
        service = service_here(os.environ)
        summary = f"The service is {service.path}."
        if action == "install":
            service.install()
            summary = f"{service.path} keeps the engine up. {service.hint}".rstrip()
        elif action == "remove":
            service.remove()
            summary = f"{service.path} is gone, its engine is stopped. Running jobs keep running."
        change = ServiceChange(summary=summary, path=str(service.path), content=service.content)
        self._write(change, views.show_summary, as_json=as_json)
        if action == "show" and not as_json:
            self._output.text(change.content.rstrip("\n"))
        return Exit.OK
