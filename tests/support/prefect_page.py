"""What the buttons of the Prefect UI do, by the same calls (prefect 3.9)."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import PrefectClient


async def press_pause(client: Any, run_id: object, *, seconds: float = 300.0) -> None:
    """Pause: the page asks for how long, and proposes 5 minutes.

    Args:
        client: Prefect's client, or any HTTP client of its API.
        run_id: The flow run.
        seconds: The length of the pause.
    """
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    details = {"pause_timeout": until, "pause_reschedule": True}
    await _set_state(client, run_id, "PAUSED", name="Suspended", state_details=details)


async def press_resume(
    client: Any, run_id: object, *, expects: Collection[str] = ("ACCEPT",)
) -> None:
    """Resume; `expects` is what Prefect may answer."""
    answer = await _http(client).post(f"/flow_runs/{run_id}/resume")
    assert answer.json()["status"] in expects, answer.text


async def press_cancel(client: Any, run_id: object) -> None:
    """Cancel."""
    await _set_state(client, run_id, "CANCELLING", name="Cancelling")


async def _set_state(client: Any, run_id: object, kind: str, **state: Any) -> None:
    asked = {"state": {"type": kind, **state}, "force": True}
    answer = await _http(client).post(f"/flow_runs/{run_id}/set_state", json=asked)
    answer.raise_for_status()


def _http(client: Any) -> Any:
    if not isinstance(client, PrefectClient):
        return client
    return client._client  # pyright: ignore[reportPrivateUsage]
