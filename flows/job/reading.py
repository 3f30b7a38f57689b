"""The edge between what a job writes and what becomes of it: no text of a job decides its fate."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

_LIMIT_SECONDS: Final = 60.0
"""Longest time one look may take: a file system may never answer."""

P = ParamSpec("P")
T = TypeVar("T")


class Reading:
    """Reads what one job wrote; what cannot be read is passed over.

    Args:
        limit_seconds: How long one look may take.
    """

    def __init__(self, *, limit_seconds: float = _LIMIT_SECONDS) -> None:
        self._limit = limit_seconds
        self._logger = logging.getLogger("prefect.oumi.reading")
        self._failed: set[str] = set()
        self._stuck: set[str] = set()

    async def read(
        self, what: str, look: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """What `look` returns, called in a thread; None where it fails or takes too long.

        Args:
            what: What is read, for the worker's log, which says it once.
            look: Blocking.
            *args: Its arguments.
            **kwargs: Its arguments.
        """
        if what in self._stuck:
            return None  # its thread still waits; another one would too
        return await self.wait_for(what, asyncio.to_thread(look, *args, **kwargs))

    async def wait_for(self, what: str, look: Awaitable[T]) -> T | None:
        """As `read`, of what needs no thread."""
        try:
            async with asyncio.timeout(self._limit):
                return await look
        except TimeoutError:
            self._stuck.add(what)
            self._logger.warning("Reading %s took too long: gave it up", what)
        except Exception:  # the edge: a defect of ours or an odd file says nothing about the job
            if what not in self._failed:
                self._failed.add(what)
                self._logger.exception("Could not read %s", what)
        return None
