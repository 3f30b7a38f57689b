"""Limits browsers to the embedded server's own address, and its pages to its own host."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS: Final = ("127.0.0.1", "localhost")
"""A page of another host whose name leads here (DNS rebinding) sends that name."""

_POLICY: Final = {
    "default-src": "'self'",
    # Pixi.js, which draws a run's graph, compiles functions (prefect 3.9).
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


class PageGuard:
    """Prefect's application, for pages of its own address alone.

    Prefect's UI calls an analytics host although analytics are off (prefect 3.9.1): the policy
    keeps its pages from calling any host but the server.

    Args:
        app: Prefect's application.
        api_url: The address that its pages call.
    """

    def __init__(self, app: ASGIApp, *, api_url: str) -> None:
        self._app = TrustedHostMiddleware(app, allowed_hosts=list(HOSTS), www_redirect=False)
        origin = api_url.removesuffix("/api")
        connect = f"'self' {origin} {origin.replace('http', 'ws', 1)}"
        policy = {**_POLICY, "connect-src": connect}
        self._policy = "; ".join(f"{name} {value}" for name, value in policy.items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the policy on every page."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = self._policy
            await send(message)

        await self._app(scope, receive, send_with_policy)
