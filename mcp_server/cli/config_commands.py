"""The commands for the catalogue of configs."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows.core.errors import ConfigNotFound, Conflict
from mcp_server.cli import views
from mcp_server.cli.commands import Commands
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson


class ConfigCommands(Commands):
    """The methods are the commands. They need no engine."""

    panel = "The catalogue"

    def methods(self) -> dict[str, Callable[..., Exit]]:
        """The commands by name."""
        return {"configs": self.configs, "config": self.config}

    def configs(
        self,
        *,
        terms: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[TERM]...",
                help="Model, size, task, technique, data set, GPU or cloud; all must be met.",
                show_default=False,
            ),
        ] = None,
        content: Annotated[
            list[str] | None,
            typer.Option("--content", help="Text that the config must contain; repeatable."),
        ] = None,
        limit: Annotated[
            int, typer.Option("--limit", min=1, max=100, help="Configs to list at most.")
        ] = 20,
        fetch: Annotated[
            bool,
            typer.Option("--fetch", help="Fetch Oumi's own configs first, even if they are here."),
        ] = False,
        as_json: AsJson = False,
    ) -> Exit:
        """Find ready configs to start from, the best match first."""
        service = self._backend.services().catalog
        if fetch:
            with self._output.steps() as report:
                report(f"Fetching {service.library.url}")
                service.library.fetch()
        found = asyncio.run(service.search(terms or [], content_match=content or [], limit=limit))
        return self._write(found, views.show_configs, as_json=as_json)

    def config(
        self,
        *,
        path: Annotated[str, typer.Argument(metavar="PATH", help="Path as configs lists it.")],
        copy_to: Annotated[
            Path | None,
            typer.Option(
                "--copy-to", metavar="FILE", help="Write the config to a new file instead."
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> Exit:
        """Write one config of the catalogue."""
        service = self._backend.services().catalog
        if as_json:
            self._output.json(asyncio.run(service.get(path)))
            return Exit.OK
        found = service.catalog.get(path)
        if copy_to is None:
            self._output.text(found.text.rstrip("\n"))
            return Exit.OK
        try:
            with copy_to.open("x", encoding="utf-8") as file:
                file.write(found.text)
        except FileExistsError as error:
            raise Conflict(f"{copy_to} exists", "Name a new file") from error
        except OSError as error:
            raise ConfigNotFound(
                f"{copy_to} cannot be written ({error.strerror})", "Name a file in your folder"
            ) from error
        self._output.note(f"{found.entry.path} is now {copy_to}")
        return Exit.OK
