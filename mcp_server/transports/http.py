"""The MCP server on streamable HTTP."""

import hmac
import ipaddress
import signal
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.core.errors import InvalidArgument
from flows.core.settings import Settings
from mcp_server.engine_keeper import Ensure
from mcp_server.server import Options, OumiServer, build_server, make_parts
from mcp_server.transports.http_token import http_token
from mcp_server.transports.stdio import end_process

HTTP_PATH: Final = "/mcp"

_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_DRAIN_SECONDS: Final = 2
"""How long open streams may go on after a signal."""


class HttpServer:
    """Many clients on streamable HTTP.

    Args:
        settings: What a person can set.
        ensure: Finds or starts the engine.
        host: Address to listen on.
        port: Port to listen on; 0: any free one.
        read_only: Refuse every call that changes anything.
        toolsets: Offer only these groups of tools; empty: every group.

    Raises:
        InvalidArgument: The address needs a token or cannot be listened on, the token cannot be
            used, or a toolset is unknown.
    """

    def __init__(
        self,
        settings: Settings,
        ensure: Ensure,
        *,
        host: str,
        port: int,
        read_only: bool,
        toolsets: Sequence[str],
    ) -> None:
        if settings.http_token is None and not is_loopback(host):
            raise InvalidArgument(
                f"Serving on {host}, which others can reach, needs a bearer token",
                "Set OUMI_FLOWS_HTTP_TOKEN to a long random text, or serve on 127.0.0.1",
            )
        token = http_token(settings)
        options = Options(read_only=read_only, toolsets=toolsets)
        server = build_server(make_parts(settings, ensure), options)
        app = http_app(server, host=host, allowed_hosts=settings.http_allowed_hosts)
        self._app = BearerGate(app, token)
        self._socket = _listen(host, port)
        self._url_host = f"[{host}]" if ":" in host else host

    def serve(self, ready: Callable[[str], None]) -> None:
        """Serve until a signal; ends the process."""
        anyio.run(self._serve, ready)
        end_process()

    async def _serve(self, ready: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            self._app,
            log_level="warning",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            server_header=False,
            lifespan="on",
        )
        server = _Uvicorn(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, server)
            ready(f"http://{self._url_host}:{self._socket.getsockname()[1]}{HTTP_PATH}")
            await server.serve(sockets=[self._socket])
            tasks.cancel_scope.cancel()


def http_app(server: OumiServer, *, host: str, allowed_hosts: str) -> ASGIApp:
    """The application that serves MCP on streamable HTTP.

    Args:
        server: The MCP server.
        host: The address that is listened on.
        allowed_hosts: Further host names, separated by commas.
    """
    # `json_response` and `stateless_http` would lose progress and legacy elicitation.
    return server.streamable_http_app(
        streamable_http_path=HTTP_PATH,
        transport_security=transport_security(host, allowed_hosts),
    )


class BearerGate:
    """Lets requests pass that carry the token.

    Args:
        app: What they pass to.
        token: The token.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or answer 401."""
        if scope["type"] != "lifespan":
            given = Headers(scope=scope).get("authorization", "")
            scheme, _, token = given.partition(" ")
            canonical = f"{scheme.capitalize()} {token.strip()}".encode()
            # The time does not depend on how much of the token is right.
            if not hmac.compare_digest(canonical, self._expected):
                answer = JSONResponse(
                    {"error": "invalid_token", "error_description": "A bearer token is needed."},
                    status_code=401,
                    headers={"WWW-Authenticate": "Bearer"},
                )
                if scope["type"] == "http":
                    await answer(scope, receive, send)
                else:
                    await send({"type": "websocket.close"})
                return
        await self._app(scope, receive, send)


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handling, which ends the process by the same signal again."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to `_stop_on_signal`."""
        yield


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def transport_security(host: str, more: str) -> TransportSecuritySettings:
    """The Host and Origin headers that are let in, on any address.

    Args:
        host: The address that is listened on.
        more: Further host names, separated by commas.
    """
    hosts = {*_LOOPBACK, *(name.strip() for name in more.split(",") if name.strip())}
    if not is_loopback(host):
        hosts |= {host, socket.gethostname(), socket.getfqdn()}
    hosts = {f"[{name}]" if name.count(":") > 1 and name[0] != "[" else name for name in hosts}
    with_ports = sorted(hosts | {f"{name}:*" for name in hosts})
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=with_ports,
        allowed_origins=[
            f"{scheme}://{name}" for scheme in ("http", "https") for name in with_ports
        ],
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InvalidArgument(
            f"Port {port} of {host} cannot be opened ({error.strerror or error})",
            "Choose another with --port, or stop what uses it",
        ) from error
    return listener


async def _stop_on_signal(server: uvicorn.Server) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            server.should_exit = True
