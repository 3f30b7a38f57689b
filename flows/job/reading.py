"""Reads of files that a job wrote: a failed read must not change how the job ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, ParamSpec, TypeVar

from flows.core.foreign_errors import note_defects

_LIMIT_SECONDS: Final = 60.0
"""Longest time of one read: a file system may never answer."""

P = ParamSpec("P")
T = TypeVar("T")


class Reading:
    """Reads files of one job; a read that fails returns None.

    Args:
        limit_seconds: How long one read may take.
    """

    def __init__(self, *, limit_seconds: float = _LIMIT_SECONDS) -> None:
        self._limit = limit_seconds
        self._logger = logging.getLogger("prefect.oumi.reading")
        self._failed: set[str] = set()
        self._stuck: set[str] = set()

    async def read(
        self, what: str, look: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Call `look` in a thread and return its result; None if it fails or takes too long.

        Args:
            what: The subject of the read, for the worker's log, which names it once.
            look: Blocking.
            *args: Its arguments.
            **kwargs: Its arguments.
        """
        if what in self._stuck:
            return None  # its thread still waits; another one would too
        return await self.wait_for(what, asyncio.to_thread(look, *args, **kwargs))

    async def wait_for(self, what: str, look: Awaitable[T]) -> T | None:
        """Do the same for a `look` that needs no thread."""
        with note_defects(partial(self._note, what)):
            try:
                async with asyncio.timeout(self._limit):
                    return await look
            except TimeoutError:
                self._stuck.add(what)
                self._logger.warning("Reading %s took too long and was given up", what)
        return None

    def _note(self, what: str, error: Exception) -> None:
        if what not in self._failed:
            self._failed.add(what)
            self._logger.error("Could not read %s", what, exc_info=error)
