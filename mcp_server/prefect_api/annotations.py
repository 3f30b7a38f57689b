"""Calls for what people note about jobs: tags, and notes on the pages of their runs."""

from collections.abc import Sequence
from typing import Final

from pydantic import TypeAdapter

from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import Identified

_FOUND: Final = TypeAdapter(list[Identified])


class AnnotationGateway:
    """Small methods over Prefect's REST API, for tags and notes.

    Args:
        gateway: Calls the API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway

    async def replace_tags(self, run_id: str, tags: Sequence[str]) -> None:
        """Replace all tags of a flow run."""
        await self._gateway.tell("PATCH", f"/flow_runs/{run_id}", {"tags": list(tags)})

    async def show_note(self, run_id: str, note: str) -> None:
        """Show a note as an artifact of a run, in place of the one before; empty: show none."""
        key = f"note-{run_id}"
        wanted = {"artifacts": {"key": {"any_": [key]}}}
        found = await self._gateway.ask("POST", "/artifacts/filter", wanted, _FOUND) or []
        # As code, the text is no Markdown, whatever it contains.
        body = {"data": f"    {note}", "description": "A note about the job."}
        if note and found:
            await self._gateway.tell("PATCH", f"/artifacts/{found[0].id}", body)
        elif note:
            made = {**body, "key": key, "type": "markdown", "flow_run_id": run_id}
            await self._gateway.tell("POST", "/artifacts/", made)
        else:
            for one in found:
                await self._gateway.tell("DELETE", f"/artifacts/{one.id}")
