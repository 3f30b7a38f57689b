"""The few calls to Prefect's API that the start of an engine needs."""

import contextlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import StringConstraints, TypeAdapter, ValidationError

from flows.core.errors import EngineUnavailable
from flows.core.proxies import is_loopback
from mcp_server.engine.values import Connection

if TYPE_CHECKING:
    import httpx2

_UNAUTHORIZED: Final = frozenset({401, 403})
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409

_ANY: Final[TypeAdapter[Any]] = TypeAdapter(Any)

Shape = TypeVar("Shape")

_VERSION_PATH: Final = "/admin/version"
_VERSION: Final[TypeAdapter[str]] = TypeAdapter(
    Annotated[str, StringConstraints(pattern=r"^[\w.+!-]{1,64}$")]
)


class Unauthorized(EngineUnavailable):
    """The server answers but does not know our credentials."""


class Rest:
    """One server's API; every failure is an `EngineUnavailable`."""

    def __init__(self, client: "httpx2.Client", connection: Connection) -> None:
        self._client = client
        self._connection = connection

    def version(self) -> str:
        """The Prefect server's version.

        Raises:
            EngineUnavailable: The program that answers is no Prefect server.
        """
        found = self.get(_VERSION_PATH, _VERSION)
        if found is None:
            raise self._no_prefect("GET", _VERSION_PATH)
        return found

    def get(self, path: str, shape: TypeAdapter[Shape]) -> Shape | None:
        """What is at `path`; None if there is nothing."""
        return self._call("GET", path, None, shape)

    def post(self, path: str, body: Mapping[str, Any], shape: TypeAdapter[Shape]) -> Shape | None:
        """The answer to `body`; None if `path` is unknown or the object exists already."""
        return self._call("POST", path, body, shape)

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Change what is at `path`, if there is anything."""
        self._call("PATCH", path, body, _ANY)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None, shape: TypeAdapter[Shape]
    ) -> Shape | None:
        import httpx2

        url = self._connection.api_url
        if not self._connection.is_served:
            raise EngineUnavailable(
                f"The Prefect server at {url} does not run, so we sent nothing to its port",
                "Run `oumi-flows up`",
            )
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
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if answer.status_code in (_NOT_FOUND, _CONFLICT) and is_json:
            return None
        if not answer.is_success:
            raise EngineUnavailable(
                f"The Prefect server at {url} answered {answer.status_code} to {method} {path}",
                _what_to_do(self._connection),
            )
        try:
            return shape.validate_json(answer.content or b"null")
        except ValidationError as error:
            raise self._no_prefect(method, path) from error

    def _no_prefect(self, method: str, path: str) -> EngineUnavailable:
        return EngineUnavailable(
            f"The program at {self._connection.api_url} is no Prefect server that we know: its "
            f"answer to {method} {path} has an unknown form",
            _what_to_do(self._connection),
        )


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
        trust_env=not is_loopback(connection.api_url),
    ) as client:
        yield Rest(client, connection)


def _what_to_do(connection: Connection) -> str:
    if connection.embedded:
        return "Run `oumi-flows doctor`; `oumi-flows down` and `oumi-flows up` restart it"
    return (
        "Check that it runs and can be reached, or unset PREFECT_API_URL to use the embedded engine"
    )
