"""The command line, `oumi-flows`. `mcp` starts before anything the other commands need."""

import os
import sys
from functools import partial

from mcp_server.cli.edge import guarded
from mcp_server.cli.exits import Exit


def main() -> int:
    """Run the command that the process's arguments name.

    Returns:
        The exit code.
    """
    command, *rest = sys.argv[1:] or ["--help"]
    if command == "mcp":
        from mcp_server.cli.serve import serve

        code = guarded(partial(serve, arguments=rest))
    else:
        from mcp_server.cli.terminal import run_here

        code = guarded(partial(run_here, arguments=[command, *rest]), as_json="--json" in rest)
    if code is Exit.INTERRUPTED:
        # A thread that waits for the engine would keep the process until it is done.
        os._exit(code)
    return code
