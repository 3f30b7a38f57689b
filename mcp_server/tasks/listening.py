"""Notifies a `subscriptions/listen` stream of its tasks: `notifications/tasks`."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent
from mcp_types import (
    ServerNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
)
from pydantic import BaseModel

from mcp_server.tasks.extension import TaskExtension
from mcp_server.tasks.task_id import TaskId

_MOST_TASKS: Final = 200


class TaskNotification(BaseModel):
    """The present state of a task."""

    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


def wanted_tasks(wanted: SubscriptionFilter) -> dict[str, str]:
    """Return the URI of the job of each task that a stream asks for."""
    given = (wanted.model_extra or {}).get("taskIds")
    ids = cast("list[object]", given) if isinstance(given, list) else []
    tasks = {text: TaskId.parse(text) for text in ids[:_MOST_TASKS] if isinstance(text, str)}
    return {text: f"jobs://{task.job_id}" for text, task in tasks.items() if task}


async def listen_to_tasks(
    tasks: TaskExtension,
    wanted: dict[str, str],
    bus: SubscriptionBus,
    ctx: ServerRequestContext[Any, Any],
    call_next: CallNext,
) -> HandlerResult:
    """Serve a stream, and send each task on it: at once, and whenever its job changes state."""
    changed = dict.fromkeys(wanted)
    wake, acknowledged = _Wake(), anyio.Event()

    def note(event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated):
            changed.update((text, None) for text, uri in wanted.items() if uri == event.uri)
            wake.set()

    async def send() -> None:
        await acknowledged.wait()
        while True:
            while changed:
                await _send(tasks, changed.popitem()[0], ctx)
            await wake.wait()

    session = cast("ServerSession", _Acknowledging(ctx.session, list(wanted), acknowledged))
    unsubscribe = bus.subscribe(note)
    # Not in a task group, which would wrap what the stream raises.
    sending = asyncio.create_task(send())
    try:
        return await call_next(dataclasses.replace(ctx, session=session))
    finally:
        sending.cancel()
        unsubscribe()


async def _send(tasks: TaskExtension, task_id: str, ctx: ServerRequestContext[Any, Any]) -> None:
    try:
        task = await tasks.describe(task_id)
    except MCPError:  # Its client reads the reason with tasks/get.
        return
    meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
    notification = cast("ServerNotification", TaskNotification(params={**task, "_meta": meta}))
    await ctx.session.send_notification(notification, related_request_id=ctx.request_id)


class _Wake:
    """An event that can be waited for again."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


class _Acknowledging:
    """A session whose acknowledgement of the stream names its tasks, which the SDK leaves out."""

    def __init__(
        self, session: ServerSession, task_ids: Sequence[str], acknowledged: anyio.Event
    ) -> None:
        self._session = session
        self._task_ids = task_ids
        self._acknowledged = acknowledged

    async def send_notification(
        self, notification: ServerNotification, related_request_id: Any = None
    ) -> None:
        if isinstance(notification, SubscriptionsAcknowledgedNotification):
            honored = notification.params.notifications
            extra = honored.model_copy(update={"taskIds": self._task_ids})
            params = notification.params.model_copy(update={"notifications": extra})
            notification = notification.model_copy(update={"params": params})
        await self._session.send_notification(notification, related_request_id)
        self._acknowledged.set()
