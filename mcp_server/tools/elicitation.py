"""Whether a client can ask its person."""

from typing import Any

from mcp.server.mcpserver import Context


def can_ask(ctx: Context[Any]) -> bool:
    """Whether the client can show a form to its person."""
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    # An empty one, the only kind before modes existed, is for forms.
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)
