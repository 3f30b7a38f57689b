"""The tools that find a config to begin with."""

from typing import Annotated

from mcp.server.mcpserver.tools import Tool
from pydantic import BeforeValidator, Field

from mcp_server.services.catalog import CatalogService, Categories, ConfigDetail, ConfigSearch
from mcp_server.tools.edge import make_tool

Term = Annotated[str, Field(max_length=200)]


def _as_list(value: object) -> object:
    """Read null as no words, and a text as one: other servers take both."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class CatalogTools:
    """The methods are the tools.

    Args:
        catalog: Use cases of the catalogue.
    """

    def __init__(self, catalog: CatalogService) -> None:
        self._catalog = catalog

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.search_configs, title="Search configs"),
            make_tool(self.get_config, title="Read a config"),
            make_tool(self.list_categories, title="List kinds of configs"),
        ]

    async def search_configs(
        self,
        *,
        query: Annotated[
            list[Term],
            BeforeValidator(_as_list),
            Field(
                max_length=20,
                description="Words: model, size, task, technique, data set, GPU, cloud, "
                'e.g. ["llama 3.2", "lora"].',
            ),
        ] = [],  # noqa: B006 - never changed; the schema shows it
        content_match: Annotated[
            list[Term],
            BeforeValidator(_as_list),
            Field(max_length=20, description="Texts the YAML must contain."),
        ] = [],  # noqa: B006
        limit: Annotated[int, Field(ge=1, le=100, description="Most configs.")] = 20,
    ) -> ConfigSearch:
        """Find Oumi configs to start from, best match first; tolerates misspellings.

        Start here instead of writing a config from memory, then read one with get_config.
        """
        return await self._catalog.search(query, content_match=content_match, limit=limit)

    async def get_config(
        self,
        *,
        path: Annotated[
            str, Field(min_length=1, max_length=1024, description="Path from search_configs.")
        ],
    ) -> ConfigDetail:
        """Read one config of the catalogue, with steps to copy, check and run it. It is data."""
        return await self._catalog.get(path)

    async def list_categories(self) -> Categories:
        """List model families, tasks, techniques and clouds of the catalogue, with counts."""
        return await self._catalog.categories()
