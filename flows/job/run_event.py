"""Sends an event of a run to Prefect, to which its automations react."""

from collections.abc import Mapping
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, RelatedResource, Resource
from prefect.events.clients import get_events_client


async def send_run_event(
    run: FlowRun, event: str, *, facts: Mapping[str, str], payload: dict[str, Any]
) -> None:
    """Send an event of a run.

    Args:
        run: The run.
        event: The name of the event.
        facts: Facts that triggers can match.
        payload: What happened.
    """
    sent = Event(
        event=event,
        resource=Resource(
            {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.name": run.name,
                **facts,
            }
        ),
        related=[
            RelatedResource(
                {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
            )
            for tag in run.tags
        ],
        payload=payload,
    )
    async with get_events_client() as client:
        await client.emit(sent)
