"""An MCP server on a given engine: ``python -m tests.mcp_server.serve_stub stdio|http PORT ...``.

The engine is the Prefect server on PORT; port 0 is an engine that never comes up, and says so
on standard output, which must not reach the wire.
"""

import sys
import threading
from typing import Any

from flows.core.settings import Settings
from mcp_server.transports import serving
from tests.mcp_server.prefect_stub import PrefectServer


def main() -> None:
    transport, port, *rest = sys.argv[1:]

    def ensure(*, report: Any, after_down: bool) -> PrefectServer:
        print("stray words of a library")
        print("and some without an end", end="")
        report("starting")
        if port == "0":
            threading.Event().wait()
        return PrefectServer(port=int(port), auth_string="tester:secret")

    settings = Settings()
    if transport == "stdio":
        serving.serve_stdio(settings, ensure, read_only="read-only" in rest)
    else:
        host, http_port = rest
        serving.serve_http(
            settings,
            ensure,
            host=host,
            port=int(http_port),
            ready=lambda url: print(url, flush=True),
        )


if __name__ == "__main__":
    main()
