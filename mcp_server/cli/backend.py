"""The engine and the use cases of this machine, for a command of one process's life."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio.to_thread

from flows.core.settings import Settings
from mcp_server.cli.output import Output
from mcp_server.engine import Connection, Engine
from mcp_server.prefect_api.connections import EngineSource
from mcp_server.services.assembly import Services, make_gateway, make_services

T = TypeVar("T")
Make = Callable[[Settings, EngineSource], Services]


def _make(settings: Settings, engine: EngineSource) -> Services:
    # A command ends before anything in the background could.
    return make_services(settings, make_gateway(settings, engine), fetches=False)


class Backend:
    """What the commands work on.

    Args:
        settings: What a person can set.
        engine: The engine.
        output: Where it reports the steps of bringing the engine up.
        make: Makes the use cases on an engine.
    """

    def __init__(
        self, settings: Settings, engine: Engine, output: Output, *, make: Make = _make
    ) -> None:
        self._settings = settings
        self._output = output
        self._make = make
        self.engine = engine

    def services(self, found: Connection | None = None) -> Services:
        """Make the use cases.

        Args:
            found: The engine; None: it is brought up when a use case needs it.
        """
        return self._make(self._settings, FoundEngine(self._ensure, found))

    def use(self, use: Callable[[Services], Awaitable[T]], *, needs_engine: bool = True) -> T:
        """Use the use cases.

        Args:
            use: What to do with them.
            needs_engine: Whether to bring the engine up first.

        Raises:
            EngineUnavailable: The engine could not be brought up.
        """
        # Not in the event loop, in which Ctrl-C would not end it.
        found = self._ensure() if needs_engine else self.engine.running()
        return asyncio.run(self._use(use, self.services(found)))

    async def _use(self, use: Callable[[Services], Awaitable[T]], services: Services) -> T:
        try:
            return await use(services)
        finally:
            await services.gateway.aclose()

    def _ensure(self) -> Connection:
        with self._output.steps() as report:
            return self.engine.ensure(report=report)


class FoundEngine:
    """The engine as a command found it; looks again when it does not answer.

    Args:
        ensure: Finds or starts the engine. Blocks.
        found: What it answered; None: not looked yet.
    """

    def __init__(self, ensure: Callable[[], Connection], found: Connection | None) -> None:
        self._ensure = ensure
        self._found = found

    @property
    def known_connection(self) -> Connection | None:
        """The engine's connection, if it was found before."""
        return self._found

    async def connection(self) -> Connection:
        """The engine's connection."""
        return self._found or await self.revive()

    async def revive(self) -> Connection:
        """The connection after another look.

        Raises:
            EngineUnavailable: It could not be brought up.
        """
        self._found = await anyio.to_thread.run_sync(self._ensure, abandon_on_cancel=True)
        return self._found
