"""`oumi-flows mcp`: the MCP server. Imports little before the arguments say what to serve."""

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.cli.exits import Exit
from mcp_server.transports import serving

if TYPE_CHECKING:
    from mcp_server.engine import Connection, Engine
    from mcp_server.engine_keeper import Report

FOR_A_PERSON: Final = (
    "This is the MCP server. An MCP client, such as Claude Code, starts it and writes to its "
    "standard input:\n  claude mcp add oumi-flows -- oumi-flows mcp\n"
    "It now waits for messages of the protocol; Ctrl-C ends it. `oumi-flows --help` lists commands "
    "for people.\n"
)


def serve(settings: Settings, *, arguments: list[str]) -> int:
    """Serve MCP as `arguments` say; ends the process.

    Raises:
        InvalidArgument: An argument cannot be used.
    """
    options = make_parser().parse_args(arguments)
    engine = LazyEngine(settings)
    toolsets = [name for name in options.toolsets.split(",") if name]
    if options.transport == "http":
        serving.serve_http(
            settings,
            engine.ensure,
            host=options.host or serving.DEFAULT_HOST,
            port=serving.DEFAULT_PORT if options.port is None else options.port,
            read_only=options.read_only,
            toolsets=toolsets,
            ready=partial(show_how_to_connect, settings),
        )
    elif options.host is not None or options.port is not None:
        raise InvalidArgument(
            "--host and --port do not go with --transport stdio", "Add --transport http"
        )
    else:
        if sys.stdin.isatty():
            sys.stderr.write(FOR_A_PERSON)
        serving.serve_stdio(settings, engine.ensure, read_only=options.read_only, toolsets=toolsets)
    return Exit.OK


class LazyEngine:
    """The engine, imported when it is first needed.

    Args:
        settings: Where it lives.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None

    def ensure(self, *, report: "Report", after_down: bool) -> "Connection":
        """Find or start the engine."""
        if self._engine is None:
            from mcp_server.engine import Engine

            self._engine = Engine(self._settings, environ=os.environ)
        return self._engine.ensure(report=report, after_down=after_down)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidArgument(message, f"Run `{self.prog} --help`")


def make_parser() -> argparse.ArgumentParser:
    """What `oumi-flows mcp` takes."""
    parser = _Parser(
        prog="oumi-flows mcp",
        description="Serve MCP: to one client on standard input and output, or over HTTP.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--transport",
        choices=("stdio", "http"),
        default="stdio",
        help="how clients reach it; http is MCP's streamable HTTP (default: stdio)",
    )
    parser.add_argument(
        "--host",
        help="address to listen on, for http; any but a loopback address needs "
        f"OUMI_FLOWS_HTTP_TOKEN to be set (default: {serving.DEFAULT_HOST})",
    )
    parser.add_argument(
        "--port",
        type=_port,
        help=f"port to listen on, for http; 0: any free one (default: {serving.DEFAULT_PORT})",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="refuse every call that changes anything"
    )
    parser.add_argument(
        "--toolsets",
        default="",
        metavar="A,B",
        help="offer only these groups of tools, separated by commas (default: every group)",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def show_how_to_connect(settings: Settings, url: str) -> None:
    """Print where the server is, its token unless a person set one, and a line to paste."""
    from mcp_server.transports.http_token import http_token, token_path

    if settings.http_token is None:
        token, known = http_token(settings), f"the token in {token_path(settings)}"
    else:
        token, known = "$OUMI_FLOWS_HTTP_TOKEN", "the token in OUMI_FLOWS_HTTP_TOKEN"
    header = f"Authorization: Bearer {token}"
    sys.stdout.write(
        f"Serving MCP at {url}\n"
        f"Each request needs {known}:\n"
        f"  {header}\n"
        "Claude Code:\n"
        f'  claude mcp add --transport http oumi-flows {url} --header "{header}"\n'
        "Other clients: docs/operating.md, The MCP server over HTTP\n"
    )
    sys.stdout.flush()
