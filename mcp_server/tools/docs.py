"""The tools that look things up in Oumi's API."""

from typing import Annotated, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import Field

from mcp_server.services.docs import DocsAnswer, DocsService, ModuleList
from mcp_server.tools.edge import make_tool

Term = Annotated[str, Field(max_length=200)]


class DocsTools:
    """The methods are the tools.

    Args:
        docs: Use cases of Oumi's API.
    """

    def __init__(self, docs: DocsService) -> None:
        self._docs = docs

    def tools(self) -> list[Tool]:
        """The tools."""
        return [
            make_tool(self.get_docs, title="Look up Oumi's API"),
            make_tool(self.list_modules, title="List Oumi's modules"),
        ]

    async def get_docs(
        self,
        *,
        query: Annotated[
            Term | list[Term],
            Field(description="Name (TrainingParams.optimizer, optimizer) or words."),
        ],
        module: Annotated[Term, Field(description="In this module.")] = "",
        kind: Annotated[
            Literal["", "class", "dataclass", "enum", "function", "method"],
            Field(description="Only this kind; class covers dataclass and enum."),
        ] = "",
        limit: Annotated[int, Field(ge=1, le=50, description="Results.")] = 10,
        summarize: Annotated[bool, Field(description="Leave out fields and sections.")] = False,
    ) -> DocsAnswer:
        """Look up Oumi's config fields with types and defaults, enums, functions and data sets.

        Exact names come first, then full text.
        """
        terms = [query] if isinstance(query, str) else query
        return await self._docs.search(
            terms, module=module, kind=kind, limit=limit, summarize=summarize
        )

    async def list_modules(self) -> ModuleList:
        """List the modules of Oumi's API, to narrow get_docs."""
        return await self._docs.modules()
