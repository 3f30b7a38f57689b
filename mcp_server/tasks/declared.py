"""Whether a request declares the extension."""

from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

TASKS: Final = "io.modelcontextprotocol/tasks"


def declares_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether this very request says that its client understands tasks.

    Earlier revisions declare once for a whole session, which does not count.
    """
    if ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return False
    capabilities = ctx.session.client_capabilities
    return bool(capabilities and TASKS in (capabilities.extensions or {}))
