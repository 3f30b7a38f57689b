"""The commands for the catalogue of configs."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.core.errors import ConfigNotFound, Conflict
from flows.core.settings import Settings
from mcp_server.cli import views
from mcp_server.cli.exits import Exit
from mcp_server.cli.options import AsJson
from mcp_server.cli.output import Output

if TYPE_CHECKING:
    from mcp_server.services.catalog import CatalogService


class ConfigCommands:
    """The methods are the commands. They need no engine.

    Args:
        settings: Where Oumi's library is.
        output: Where they write.
    """

    def __init__(self, settings: Settings, output: Output) -> None:
        self._settings = settings
        self._output = output

    def add_to(self, app: typer.Typer) -> None:
        """Add the commands to `app`."""
        for name, method in (("configs", self.configs), ("config", self.config)):
            app.command(name, rich_help_panel="The catalogue")(method)

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
        service = self._service()
        if fetch:
            with self._output.steps() as report:
                report(f"Fetching {service.library.url}")
                service.library.fetch()
        found = asyncio.run(service.search(terms or [], content_match=content or [], limit=limit))
        if as_json:
            self._output.json(found)
        else:
            views.show_configs(found, self._output)
        return Exit.OK

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
        service = self._service()
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

    def _service(self) -> "CatalogService":
        from mcp_server.catalog.catalog import Catalog
        from mcp_server.catalog.library import OumiLibrary
        from mcp_server.services.catalog import CatalogService

        # A command ends before anything in the background could.
        return CatalogService(Catalog(OumiLibrary(self._settings)), fetches=False)
