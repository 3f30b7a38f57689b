"""Calls for notifications: Prefect's blocks and automations."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from flows.core.errors import InternalError
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import Automation, BlockDocument, Identified

_ANY: Final = TypeAdapter(Identified)
_SCHEMAS: Final = TypeAdapter(list[Identified])
_BLOCK: Final = TypeAdapter(BlockDocument)
_AUTOMATION: Final = TypeAdapter(Automation)
_AUTOMATIONS: Final = TypeAdapter(list[Automation])


class NotificationGateway:
    """Small methods over Prefect's REST API, for blocks and automations.

    Args:
        gateway: Calls the API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway

    async def block(self, kind: str, name: str) -> BlockDocument | None:
        """Read a block by its type's slug and its own name."""
        path = f"/block_types/slug/{kind}/block_documents/name/{name}"
        return await self._gateway.ask("GET", path, None, _BLOCK)

    async def create_block(self, kind: str, name: str, data: Mapping[str, Any]) -> BlockDocument:
        """Create a block of one of Prefect's own types."""
        block_type = await self._gateway.ask("GET", f"/block_types/slug/{kind}", None, _ANY)
        schemas: list[Identified] = []
        if block_type is not None:
            wanted = {"block_schemas": {"block_type_id": {"any_": [block_type.id]}}, "limit": 1}
            schemas = (
                await self._gateway.ask("POST", "/block_schemas/filter", wanted, _SCHEMAS) or []
            )
        if block_type is None or not schemas:
            raise InternalError(
                f"The Prefect server has no block type {kind!r}",
                "Start it with PREFECT_API_BLOCKS_REGISTER_ON_START=true",
            )
        body = {
            "name": name,
            "data": data,
            "block_type_id": block_type.id,
            "block_schema_id": schemas[0].id,
        }
        made = await self._gateway.ask("POST", "/block_documents/", body, _BLOCK)
        if made is None:
            raise InternalError(f"The Prefect server did not keep block {name}", "Report this")
        return made

    async def automations(self, name: str) -> list[Automation]:
        """Read the automations of a name, oldest first; there can be several."""
        wanted = {"automations": {"name": {"any_": [name]}}, "sort": "CREATED_DESC"}
        found = await self._gateway.ask("POST", "/automations/filter", wanted, _AUTOMATIONS)
        return sorted(found or [], key=lambda one: (one.created, one.id))

    async def create_automation(self, automation: Mapping[str, Any]) -> None:
        """Create an automation."""
        await self._gateway.ask("POST", "/automations/", automation, _AUTOMATION)

    async def delete_automation(self, automation_id: str) -> None:
        """Delete an automation if it still exists."""
        await self._gateway.tell("DELETE", f"/automations/{automation_id}")
