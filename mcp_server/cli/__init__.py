"""The command line, `oumi-flows`. `mcp` starts before anything the other commands need."""

import os
import sys
from functools import partial

from flows.core.proxies import proxy_changes
from flows.core.settings import Settings
from mcp_server.cli.edge import run_guarded
from mcp_server.cli.exits import Exit


def main() -> int:
    """Run the command that the process's arguments name.

    Returns:
        The exit code.
    """
    os.environ.update(proxy_changes(os.environ))
    # Without a terminal it is what a client's configuration names as its server.
    arguments = sys.argv[1:] or (["--help"] if sys.stdin.isatty() else ["mcp"])
    code = run_guarded(partial(_run, arguments=arguments), as_json="--json" in arguments)
    if code is Exit.INTERRUPTED:
        # A thread that waits for the engine would keep the process until it is done.
        os._exit(code)
    return code


def _run(settings: Settings, *, arguments: list[str]) -> int:
    if arguments[0] == "mcp" and not os.environ.get("_OUMI_FLOWS_COMPLETE"):
        from mcp_server.cli.serve import serve

        return serve(settings, arguments=arguments[1:])
    from mcp_server.cli.terminal import run_here

    return run_here(settings, arguments=arguments)
