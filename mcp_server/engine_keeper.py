"""Starts the engine in the background and keeps it up while this process lives."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import anyio
import anyio.to_thread

from flows.core.errors import EngineUnavailable, InternalError, OumiFlowsError
from flows.core.foreign_errors import translate_foreign
from mcp_server.prefect_api.connections import EngineConnection

CHECK_SECONDS: Final = 5.0

Report = Callable[[str], None]


class Ensure(Protocol):
    """Finds the engine, or starts it and waits for it; blocks."""

    def __call__(self, *, report: Report, after_down: bool) -> EngineConnection:
        """The engine's connection.

        Args:
            report: Receives each step that takes time.
            after_down: Whether to start an engine that a person stopped.

        Raises:
            EngineUnavailable: It cannot be found or started.
        """
        ...


class EngineKeeper:
    """The engine as the gateway sees it; at most one look at it runs at a time.

    Args:
        ensure: Finds or starts the engine.
        timeout_seconds: How long a caller waits for it.
        check_seconds: How long between two looks of `keep`.
    """

    def __init__(
        self, ensure: Ensure, *, timeout_seconds: float, check_seconds: float = CHECK_SECONDS
    ) -> None:
        self._ensure = ensure
        self._timeout_seconds = timeout_seconds
        self._check_seconds = check_seconds
        self._connection: EngineConnection | None = None
        self._looking: asyncio.Task[EngineConnection] | None = None
        self._starts_all = False
        """Whether the look under way starts an engine that a person stopped."""
        self._threads = anyio.CapacityLimiter(1)
        self.phase = "looking for the engine"
        """What the look under way is doing."""

    @property
    def known_connection(self) -> EngineConnection | None:
        """The engine's connection, if it was there when last looked at."""
        return self._connection

    @property
    def is_up(self) -> bool:
        """Whether the engine was there when last looked at."""
        return self._connection is not None

    async def connection(self) -> EngineConnection:
        """The engine's connection; waits for it to come up.

        Raises:
            EngineUnavailable: It did not come up, or not in time.
        """
        return self._connection or await self.revive()

    async def revive(self, *, after_down: bool = True) -> EngineConnection:
        """The connection after another look at the engine, which starts what is not running.

        Args:
            after_down: Whether to start an engine that a person stopped.

        Raises:
            EngineUnavailable: It did not come up, or not in time.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if after_down and self._looking is not None and not self._starts_all:
                    # The look under way does not start an engine that a person stopped.
                    with suppress(OumiFlowsError):
                        return await asyncio.shield(self._looking)
                if self._looking is None:
                    self._starts_all = after_down
                    self._looking = asyncio.create_task(self._look(after_down=after_down))
                    self._looking.add_done_callback(_take_error)
                # Others wait for the same look: one caller's time-out must not end it.
                return await asyncio.shield(self._looking)
        except TimeoutError as error:
            raise EngineUnavailable(
                f"The engine did not come up within {self._timeout_seconds:g} s ({self.phase})",
                "Run `oumi-flows doctor`; the start continues, so a later call may work",
            ) from error
        except OumiFlowsError as error:
            raise EngineUnavailable(error.what, error.next_step) from error

    async def keep(self) -> None:
        """Bring the engine up, then look at it every few seconds, until cancelled.

        An engine that a person stops meanwhile stays down until a call needs it.
        """
        first = True
        while True:
            try:
                await self.revive(after_down=first)
            except EngineUnavailable:
                # A call that needs the engine reports the error.
                self._connection = None
            first = False
            await anyio.sleep(self._check_seconds)

    async def tell_until_up(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Tell each new phase of the look under way, until the engine is up."""
        last = ""
        while not self.is_up:
            if self.phase != last:
                last = self.phase
                await tell(last)
            await anyio.sleep(0.1)

    def close(self) -> None:
        """End the look under way; its thread ends with the process."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self, *, after_down: bool) -> EngineConnection:
        try:
            # Any defect, such as an odd file of Prefect's, reaches the callers as an error; the MCP
            # server keeps running.
            with translate_foreign(_unreadable):
                self._connection = await anyio.to_thread.run_sync(
                    partial(self._ensure, report=self._report, after_down=after_down),
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
            return self._connection
        finally:
            self._looking = None

    def _report(self, phase: str) -> None:
        self.phase = phase


def _take_error(look: "asyncio.Task[EngineConnection]") -> None:
    """Take the error of a look whose callers may all have been cancelled meanwhile."""
    if not look.cancelled():
        look.exception()


def _unreadable(error: Exception) -> InternalError:
    return InternalError(
        f"The state of the engine could not be read ({type(error).__name__}: {error})",
        "Run `oumi-flows doctor`",
    )
