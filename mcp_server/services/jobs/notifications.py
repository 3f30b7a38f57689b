"""Notifies a receiver that a job has ended or runs badly, through Prefect's automations and blocks.

Each receiver has one automation, for the runs that carry its tag. So a notification needs only the
Prefect server, covers the runs of schedules, whose tags come from their deployment, and can be
read, changed and switched off in the Prefect UI.
"""

import hashlib
import re
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from flows.core.errors import InvalidArgument
from flows.core.models import NotifyOn
from flows.core.names import BUDGET_DIGEST_EVENT, BUDGET_EVENT, HEALTH_EVENT, NOTIFY_TAG
from flows.core.states import Health
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
    NotifyOn.BAD: ["FAILED", "CRASHED"],
}

_STATE: Final = (
    "{'COMPLETED': 'succeeded', 'FAILED': 'failed', 'CRASHED': 'crashed', "
    "'CANCELLED': 'cancelled'}[event.resource['prefect.state-type']]"
)
_MESSAGE: Final = "event.resource['prefect.state-message'][:1000]"


class _Text(NamedTuple):
    """What a notification says, as Jinja expressions of Prefect.

    Attributes:
        subject: One line: the job and what is the matter.
        state: A job state, or `running` of a job whose health turned bad.
        message: What happened.
    """

    subject: str
    state: str
    message: str

    @property
    def payload(self) -> str:
        """The body of a call."""
        # What a work pool spends is about no run.
        return (
            "{{ {"
            f"'text': {self.subject} ~ ': ' ~ {self.message}, "
            "'job_id': flow_run.id|string if flow_run else none, "
            "'url': flow_run|ui_url if flow_run else none, "
            "'name': event.resource.name, "
            f"'state': {self.state}, "
            f"'message': {self.message}"
            "} | tojson }}"
        )


_OF_END: Final = _Text(f"event.resource.name ~ ' has ' ~ {_STATE}", _STATE, _MESSAGE)
_OF_HEALTH: Final = _Text(
    "event.resource.name ~ ' runs badly'", "'running'", "event.payload['summary'][:1000]"
)
_OF_LIMIT: Final = _Text(
    "event.resource.name ~ ' nears its limit'", "'running'", "event.payload['summary'][:1000]"
)
_OF_BUDGET: Final = _Text(
    "event.resource.name", "event.resource['oumi.budget']", "event.payload['summary'][:1000]"
)


class Notifications:
    """Sets up notifications of the ends of jobs.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = NotificationGateway(gateway)

    async def tags(
        self, notify: str | None, on: NotifyOn, *, is_limited: bool = False
    ) -> list[str]:
        """Return the tags of a run that notifies of its end; create the automation in Prefect.

        Args:
            notify: A URL to call, or a notification block's `type/name`; None: no notification.
            on: Which ends to report.
            is_limited: Whether the run has a limit of spending, of which it also warns.

        Raises:
            InvalidArgument: `notify` is neither, or Prefect has no such block.
        """
        if notify is None:
            return []
        check_receiver(notify)
        block = await (self._webhook(notify) if _is_url(notify) else self._block_named(notify))
        tag = f"{NOTIFY_TAG}{on}:{block.name}"
        name = f"oumi-flows: {tag}"
        await self._ensure_automation(name, tag, _trigger(tag, on), _action(block, _OF_END))
        if on is NotifyOn.BAD:
            action = _action(block, _OF_HEALTH)
            await self._ensure_automation(f"{name}: health", tag, _health_trigger(tag), action)
        if is_limited:
            trigger = _of_runs(tag, {"oumi.budget": "near"}, BUDGET_EVENT)
            action = _action(block, _OF_LIMIT)
            await self._ensure_automation(f"{name}: limit", tag, trigger, action)
        return [tag]

    async def watch_budgets(self, notify: str, pool: str) -> str:
        """Send the warnings and the daily digest of a pool to a receiver; return its block.

        Raises:
            InvalidArgument: `notify` is neither a URL nor a block, or Prefect has no such block.
        """
        check_receiver(notify)
        block = await (self._webhook(notify) if _is_url(notify) else self._block_named(notify))
        name = f"oumi-flows: budgets of {pool}"
        for known in await self._gateway.automations(name):
            await self._gateway.delete_automation(known.id)
        await self._ensure_automation(name, pool, _budget_trigger(pool), _action(block, _OF_BUDGET))
        return block.name

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

    async def _ensure_automation(
        self, name: str, tag: str, trigger: dict[str, Any], action: dict[str, Any]
    ) -> None:
        if await self._gateway.automations(name):
            return
        await self._gateway.create_automation(
            {
                "name": name,
                "description": f"Notifies of Oumi jobs with the tag {tag}.",
                "enabled": True,
                "trigger": trigger,
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
    """The trigger of the ends of jobs."""
    match = {
        "prefect.state-type": _TYPES[on],
        # A run that a schedule skipped needs no notification.
        "prefect.state-message": "!skipped: *",
    }
    return _of_runs(tag, match, "prefect.flow-run.*")


def _health_trigger(tag: str) -> dict[str, Any]:
    """The trigger of a health that turns bad while the job runs; its end has one of its own."""
    return _of_runs(tag, {"oumi.health": Health.BAD, "oumi.running": "yes"}, HEALTH_EVENT)


def _of_runs(tag: str, match: dict[str, Any], event: str) -> dict[str, Any]:
    return {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*", **match},
        "match_related": {
            "prefect.resource.role": "tag",
            "prefect.resource.id": f"prefect.tag.{tag}",
        },
        "expect": [event],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }


def _action(block: BlockDocument, text: "_Text") -> dict[str, Any]:
    if not block.has_capability(_NOTIFIES):
        return {
            "type": "call-webhook",
            "block_document_id": block.id,
            "payload": text.payload,
        }
    return {
        "type": "send-notification",
        "block_document_id": block.id,
        "subject": "{{ " + text.subject + " }}",
        "body": "{{ " + text.message + " ~ ('\n' ~ (flow_run|ui_url) if flow_run else '') }}",
    }


def _budget_trigger(pool: str) -> dict[str, Any]:
    """The trigger of what a pool spends."""
    return {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": f"oumi-flows.budget.{pool}"},
        "expect": [BUDGET_EVENT, BUDGET_DIGEST_EVENT],
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }
