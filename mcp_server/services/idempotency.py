"""The rule of an idempotency key: its object is returned to the same request, and to no other."""

from flows.core.errors import Conflict
from mcp_server.prefect_api.models import Deployment, FlowRun


def refuse_another_request(
    key: str | None, owner: FlowRun | Deployment, *, kind: str, made_from: object, asked_for: object
) -> None:
    """Refuse a request whose key belongs to an object that another request made.

    Args:
        key: The idempotency key; None: the request has none, and made the object itself.
        owner: The object that Prefect has for the key.
        kind: The word for such an object.
        made_from: The request that the object was made from.
        asked_for: The request of this call, in the same form.

    Raises:
        Conflict: The requests differ.
    """
    if made_from != asked_for:
        raise Conflict(
            f"idempotency_key {key!r} belongs to {kind} {owner.id} ({owner.name}), which has other "
            "arguments or another version of the config",
            "Use another key, or the same arguments",
        )
