"""The few calls to Prefect's API that starting an engine takes."""

import contextlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Final

from flows.errors import EngineUnavailable
from mcp_server.engine.values import Connection

if TYPE_CHECKING:
    import httpx2

_UNAUTHORIZED: Final = frozenset({401, 403})
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409


class Unauthorized(EngineUnavailable):
    """The server answers but does not know our credentials."""


class Rest:
    """One server's API; every failure is an `EngineUnavailable`."""

    def __init__(self, client: "httpx2.Client", connection: Connection) -> None:
        self._client = client
        self._connection = connection

    def get(self, path: str) -> Any | None:
        """The JSON at `path`; None if there is nothing."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any | None:
        """The JSON answered to `body`; None if `path` is unknown or the object exists already."""
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any | None:
        import httpx2

        url = self._connection.api_url
        try:
            answer = self._client.request(method, f"{url}{path}", json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise EngineUnavailable(
                f"The Prefect server at {url} did not answer ({type(error).__name__})",
                _what_to_do(self._connection),
            ) from error
        if answer.status_code in _UNAUTHORIZED:
            raise Unauthorized(
                f"The Prefect server at {url} refused our credentials",
                _what_to_do(self._connection)
                if self._connection.embedded
                else "Set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to what that server expects",
            )
        if answer.status_code in (_NOT_FOUND, _CONFLICT):
            return None
        if not answer.is_success:
            raise EngineUnavailable(
                f"The Prefect server at {url} answered {answer.status_code} to {method} {path}",
                _what_to_do(self._connection),
            )
        return answer.json() if answer.content else {}


@contextlib.contextmanager
def rest(connection: Connection, *, timeout: float) -> Generator[Rest]:
    """A client of the server at `connection`; `timeout` in seconds bounds each call."""
    import httpx2

    with httpx2.Client(
        headers=connection.headers,
        timeout=timeout,
        # A TLS context costs 20 ms that plain HTTP has no use for.
        verify=not connection.api_url.startswith("http://"),
        # A proxy of the environment cannot reach the loopback of this machine.
        trust_env=not connection.embedded,
    ) as client:
        yield Rest(client, connection)


def _what_to_do(connection: Connection) -> str:
    if connection.embedded:
        return "Run `oumi-flows doctor`; `oumi-flows down` and `oumi-flows up` start it anew"
    return (
        "See that it runs and can be reached, or unset PREFECT_API_URL to use the embedded engine"
    )
