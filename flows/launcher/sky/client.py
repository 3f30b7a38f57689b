"""SkyPilot's own client (skypilot 0.12): quiet, with time limits, and never starting a server.

The client starts an API server of its own where it finds none, and writes to standard output. This
module prevents both. Importing the client takes seconds, so the first call does that.
"""

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never, cast

from flows.core.errors import ClusterUnreachable
from flows.launcher.port import ASKS_AGAIN
from flows.launcher.sky.errors import cannot_be_asked, translate_errors

if TYPE_CHECKING:
    from oumi.core.configs import JobConfig

_ENDPOINT_ENV: Final = "SKYPILOT_API_SERVER_ENDPOINT"
_POST_SECONDS: Final = 30.0
_HEALTH_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 90.0
"""How long the server may send nothing: a stream has something every 30 s (skypilot 0.12,
sky/server/stream_utils.py). Without this limit the client waits for ever on a dead connection."""


class SkyClient:
    """The requests of SkyPilot's client that every use of its API server needs.

    Args:
        silence_seconds: How long the server may send nothing. The client that
            was asked last decides that for all of its process.
        health_seconds: How long it may take to say that it is well.
    """

    def __init__(
        self, *, silence_seconds: float = _SILENCE_SECONDS, health_seconds: float = _HEALTH_SECONDS
    ) -> None:
        self._silence_seconds = silence_seconds
        self._health_seconds = health_seconds
        self.stdout_is_stderr = _StdoutIsStderr()

    def load(self) -> None:
        """Import the client, and what Oumi builds on it."""
        self.import_sky()
        from oumi.launcher.clients import sky_client  # noqa: F401 # pyright: ignore[reportUnusedImport]

    def import_sky(self) -> Any:
        """Import the client; keep it from starting servers and from standard output."""
        with self.stdout_is_stderr:
            import sky
        from sky.server import common

        # Every call goes through this function before it starts a server (skypilot 0.12,
        # sky/server/common.py, check_server_healthy_or_start_fn).
        common._start_api_server = _start_nothing  # pyright: ignore[reportPrivateUsage]
        _bound_reads(self._silence_seconds)
        handlers: list[Any] = logging.getLogger("sky").handlers
        for handler in handlers:
            if getattr(handler, "stream", None) is sys.stdout:
                handler.setStream(sys.stderr)
        return sky

    def get(self, request_id: Any) -> Any:
        """Wait for the result of a request, without a limit while the server answers."""
        import requests

        sky = self.import_sky()
        from sky.server import common as untyped

        common: Any = untyped
        while True:
            try:
                return sky.get(request_id)
            except requests.exceptions.ReadTimeout:
                # The request has not ended, or the connection is dead. The loop asks again.
                common.make_authenticated_request(
                    "GET", "/api/health", retry=False, timeout=self._health_seconds
                )

    def list_requests(self, what: str, **which: Any) -> list[dict[str, Any]]:
        """The server's records of requests, ended ones too; `what` names them in errors."""
        self.import_sky()
        from sky.server import common as untyped
        from sky.server.requests import payloads

        common: Any = untyped

        # `sky.api_status` answers [] without asking where the server is local by its address but
        # not one of this machine's processes (skypilot 0.12, sky/client/sdk.py).
        body = payloads.RequestStatusBody(all_status=True, **which)
        with translate_errors(what):
            response = common.make_authenticated_request(
                "GET",
                "/api/status",
                params=common.request_body_to_params(body),
                timeout=_POST_SECONDS,
            )
            common.handle_request_error(response)
            return response.json()

    @contextlib.contextmanager
    def translate_forgotten(self, request_id: str) -> Generator[None]:
        """Translate the error of a request that the server has forgotten.

        A server forgets all requests when it starts, also those that its processes still work on
        (skypilot 0.12, sky/server/server.py).
        """
        from sky import exceptions

        try:
            yield
        except cannot_be_asked():
            raise
        except (exceptions.ClientError, RuntimeError) as error:
            if self.list_requests(f"its request {request_id}", request_ids=[request_id]):
                raise
            raise ClusterUnreachable(
                "the SkyPilot API server was restarted during the launch and has forgotten it",
                ASKS_AGAIN,
            ) from error


def load_if_used() -> None:
    """Import the client if this machine has settings for a server, or had a server.

    The import takes 2 s, which the first query of a cluster would otherwise wait for.
    """
    if not (os.environ.get(_ENDPOINT_ENV) or (Path.home() / ".sky").exists()):
        return
    with contextlib.suppress(ImportError):
        SkyClient().load()


def task_of(job: "JobConfig") -> Any:
    """SkyPilot's task of a job config."""
    # Oumi's own translation has no public name (oumi 0.9).
    from oumi.launcher.clients import sky_client

    return sky_client._convert_job_to_task(job)  # pyright: ignore[reportPrivateUsage]


def sky_cloud(cloud: str) -> Any:
    """SkyPilot's object of one of Oumi's clouds."""
    from oumi.core.configs import JobConfig, JobResources
    from oumi.launcher.clients import sky_client

    job = JobConfig(resources=JobResources(cloud=cloud))
    return sky_client._get_sky_cloud_from_job(job)  # pyright: ignore[reportPrivateUsage]


def _start_nothing(*_args: object, **_kwargs: object) -> Never:
    from sky import exceptions
    from sky.server import common

    raise exceptions.ApiServerConnectionError(common.get_server_url())


@functools.lru_cache(maxsize=1)
def _bound_reads(silence_seconds: float) -> None:
    """Limit every read of the client, in all of this process."""
    from requests.adapters import HTTPAdapter
    from sky.server import rest

    class Bounded(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Any:
            given = options.get("timeout")
            connect, read = cast("Any", given) if isinstance(given, tuple) else (given, given)
            return super().send(*args, **{**options, "timeout": (connect, read or silence_seconds)})

    session: Any = rest._session  # pyright: ignore[reportPrivateUsage]
    for scheme in ("http://", "https://"):
        # As large as the client's own (skypilot 0.12, sky/server/rest.py).
        session.mount(scheme, Bounded(pool_connections=50, pool_maxsize=200, max_retries=0))


class _StdoutIsStderr:
    """Sends standard output to standard error while at least one user needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._redirect = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._redirect = contextlib.redirect_stdout(sys.stderr)
                self._redirect.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._redirect.__exit__(None, None, None)
