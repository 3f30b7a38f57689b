"""Entry points of the MCP server: they import little before the arguments say what to serve."""

import gc
import importlib
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from flows.core.settings import Settings

if TYPE_CHECKING:
    from io import TextIOWrapper

    from mcp_server.engine_keeper import Ensure

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8765


def serve_stdio(
    settings: Settings, ensure: "Ensure", *, read_only: bool = False, toolsets: Sequence[str] = ()
) -> None:
    """Serve one client on standard input and output until it leaves; ends the process.

    Args:
        settings: What a person can set.
        ensure: Finds or starts the engine.
        read_only: Refuse every call that changes anything.
        toolsets: Offer only these groups of tools; empty: every group.

    Raises:
        InvalidArgument: A toolset is unknown.
    """
    # While the SDK serves, fd 1 leads to standard error, but what `print` has buffered by then
    # would be flushed onto the wire when the process ends (mcp 2.3).
    cast("TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    with _without_collection():
        transport = importlib.import_module("mcp_server.transports.stdio")
        server = transport.StdioServer(settings, ensure, read_only=read_only, toolsets=toolsets)
    server.serve()


def serve_http(
    settings: Settings,
    ensure: "Ensure",
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    read_only: bool = False,
    toolsets: Sequence[str] = (),
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve streamable HTTP until a signal; ends the process.

    Args:
        settings: What a person can set; each request must carry `http_token`, or the token that
            is made where none is set.
        ensure: Finds or starts the engine.
        host: Address to listen on; any but the loopback needs `http_token`.
        port: Port to listen on; 0: any free one.
        read_only: Refuse every call that changes anything.
        toolsets: Offer only these groups of tools; empty: every group.
        ready: Called with the server's URL when it listens.

    Raises:
        InvalidArgument: The address needs a token or cannot be listened on, the token cannot be
            used, or a toolset is unknown.
    """
    with _without_collection():
        transport = importlib.import_module("mcp_server.transports.http")
        server = transport.HttpServer(
            settings, ensure, host=host, port=port, read_only=read_only, toolsets=toolsets
        )
    server.serve(ready)


@contextmanager
def _without_collection() -> Generator[None]:
    """Pause the garbage collector, and exempt what was created meanwhile: it stays anyway.

    Saves some 70 ms of a start and most of the time of an exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
