"""What the gateway needs to know of an engine: where its server is, and how to reach it."""

from collections.abc import Mapping
from typing import Protocol


class EngineConnection(Protocol):
    """The address of a Prefect server and how to authorise calls to it."""

    @property
    def api_url(self) -> str:
        """The root of the API."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers that authorise a request."""
        ...

    @property
    def ui_url(self) -> str | None:
        """The root of the UI."""
        ...

    @property
    def is_served(self) -> bool:
        """Whether credentials may be sent: no other process holds the embedded server's port."""
        ...

    @property
    def embedded(self) -> bool:
        """Whether the server is this machine's own, whose worker runs with it."""
        ...


class EngineSource(Protocol):
    """Has the engine's connection, and restarts an engine that is gone."""

    async def connection(self) -> EngineConnection:
        """Wait for the engine to start; return its connection."""
        ...

    async def revive(self) -> EngineConnection:
        """Check an engine that did not answer; return its connection."""
        ...
