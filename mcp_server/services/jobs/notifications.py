"""Notifies a receiver that a job has ended, through Prefect's automations and blocks.

Each receiver has one automation, for the runs that carry its tag. So a notification needs only the
Prefect server, covers the runs of schedules, whose tags come from their deployment, and can be
read, changed and switched off in the Prefect UI.
"""

import hashlib
import re
from typing import Any, Final
from urllib.parse import urlsplit

from flows.core.errors import InvalidArgument
from flows.core.models import NotifyOn
from flows.core.names import NOTIFY_TAG
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import BlockDocument
from mcp_server.prefect_api.notifications import NotificationGateway

_WEBHOOK: Final = "webhook"
_NOTIFIES: Final = "notify"
_BLOCK: Final = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+)")
_MARK: Final = 12

_TYPES: Final = {
    NotifyOn.END: ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"],
    NotifyOn.FAILURE: ["FAILED", "CRASHED"],
}

_STATE: Final = (
    "{'COMPLETED': 'succeeded', 'FAILED': 'failed', 'CRASHED': 'crashed', "
    "'CANCELLED': 'cancelled'}[event.resource['prefect.state-type']]"
)
_MESSAGE: Final = "event.resource['prefect.state-message'][:1000]"
_WORDS: Final = f"event.resource.name ~ ' has ' ~ {_STATE} ~ ': ' ~ {_MESSAGE}"
_PAYLOAD: Final = (
    "{{ {"
    f"'text': {_WORDS}, "
    "'job_id': flow_run.id|string, "
    "'name': event.resource.name, "
    f"'state': {_STATE}, "
    f"'message': {_MESSAGE}, "
    "'url': flow_run|ui_url"
    "} | tojson }}"
)


class Notifications:
    """Sets up notifications of the ends of jobs.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = NotificationGateway(gateway)

    async def tags(self, notify: str | None, on: NotifyOn) -> list[str]:
        """Return the tags of a run that notifies of its end; create the automation in Prefect.

        Args:
            notify: A URL to call, or a notification block's `type/name`; None: no notification.
            on: Which ends to report.

        Raises:
            InvalidArgument: `notify` is neither, or Prefect has no such block.
        """
        if notify is None:
            return []
        check_receiver(notify)
        block = await (self._webhook(notify) if _is_url(notify) else self._block_named(notify))
        tag = f"{NOTIFY_TAG}{on}:{block.name}"
        await self._ensure_automation(tag, on, _action(block))
        return [tag]

    async def _webhook(self, url: str) -> BlockDocument:
        """Read or create the block for a URL, which may be a secret; its name does not show it."""
        name = f"oumi-flows-{hashlib.sha256(url.encode()).hexdigest()[:_MARK]}"
        found = await self._gateway.block(_WEBHOOK, name)
        data = {"method": "POST", "url": url, "headers": {"Content-Type": "application/json"}}
        return found or await self._gateway.create_block(_WEBHOOK, name, data)

    async def _block_named(self, reference: str) -> BlockDocument:
        kind, _, name = reference.partition("/")
        found = await self._gateway.block(kind, name)
        if found is None:
            raise InvalidArgument(
                f"notify names the block {reference!r}, which Prefect does not have",
                "Make it in the Prefect UI under Blocks, or give a URL",
            )
        if kind != _WEBHOOK and not found.has_capability(_NOTIFIES):
            raise InvalidArgument(
                f"notify names the block {reference!r}, which is not one for notifications",
                "Use one of Slack, email and the like, or a webhook",
            )
        return found

    async def _ensure_automation(self, tag: str, on: NotifyOn, action: dict[str, Any]) -> None:
        name = f"oumi-flows: {tag}"
        if await self._gateway.automations(name):
            return
        await self._gateway.create_automation(
            {
                "name": name,
                "description": f"Tells of the {on} of Oumi jobs with the tag {tag}.",
                "enabled": True,
                "trigger": _trigger(tag, on),
                "actions": [action],
            }
        )
        # Prefect allows several of one name; all callers keep the oldest one.
        for extra in (await self._gateway.automations(name))[1:]:
            await self._gateway.delete_automation(extra.id)


def notify_tags(tags: list[str]) -> list[str]:
    """Pick the tags that notify of the end from those of a run or a schedule."""
    return [tag for tag in tags if tag.startswith(NOTIFY_TAG)]


def check_receiver(notify: str) -> None:
    """Refuse what is neither a URL nor a block.

    Raises:
        InvalidArgument: It is neither. The error does not repeat it: it may hold a secret.
    """
    if not (_is_url(notify) or _BLOCK.fullmatch(notify)):
        raise InvalidArgument(
            "notify is neither an http(s) URL nor a Prefect block's type/name",
            "Give something like https://example.org/hook or slack-webhook/team",
        )


def _is_url(notify: str) -> bool:
    try:
        parts = urlsplit(notify)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _trigger(tag: str, on: NotifyOn) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Reactive",
        "match": {
            "prefect.resource.id": "prefect.flow-run.*",
            "prefect.state-type": _TYPES[on],
            # A run that a schedule skipped needs no notification.
            "prefect.state-message": "!skipped: *",
        },
        "match_related": {
            "prefect.resource.role": "tag",
            "prefect.resource.id": f"prefect.tag.{tag}",
        },
        "expect": ["prefect.flow-run.*"],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }


def _action(block: BlockDocument) -> dict[str, Any]:
    if not block.has_capability(_NOTIFIES):
        return {
            "type": "call-webhook",
            "block_document_id": block.id,
            "payload": _PAYLOAD,
        }
    return {
        "type": "send-notification",
        "block_document_id": block.id,
        "subject": "{{ event.resource.name ~ ' has ' ~ " + _STATE + " }}",
        "body": "{{ " + _MESSAGE + " ~ '\n' ~ (flow_run|ui_url) }}",
    }
