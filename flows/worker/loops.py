"""What a worker does again and again, whatever goes wrong in between."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from flows.core.foreign_errors import note_defects

API_ERRORS = (httpx.HTTPError, TimeoutError)
"""Prefect's server did not answer, or answered with an error."""

Look = Callable[[], Awaitable[None]]


class Loops:
    """Tasks that run until the worker stops.

    Args:
        logger: The worker's log.
    """

    def __init__(self, logger: "logging.Logger | logging.LoggerAdapter[Any]") -> None:
        self._logger = logger
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Awaitable[None], name: str) -> "asyncio.Task[None]":
        """Start something that goes on by itself."""
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.append(task)
        return task

    def repeat(self, look: Look, seconds: float, name: str) -> None:
        """Call `look` again and again; a server that does not answer is asked again."""

        async def forever() -> None:
            while True:
                await self.guard(look)()
                await asyncio.sleep(seconds)

        self.start(forever(), name)

    def guard(self, look: Look) -> Look:
        """Return the look, unable to fail."""

        async def guarded_look() -> None:
            with note_defects(self._note_failed_look):
                await look()

        return guarded_look

    async def stop(self) -> None:
        """Cancel the tasks, and wait for their ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note_failed_look(self, error: Exception) -> None:
        if isinstance(error, API_ERRORS):
            self._logger.debug("Prefect did not answer: %r", error)
        else:
            self._logger.error("Looking at the pool's runs failed", exc_info=error)
