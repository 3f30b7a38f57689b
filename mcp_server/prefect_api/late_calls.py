"""Calls that may take longer than the one that made them waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class LateCalls:
    """Calls that go on in the background."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def make(self, call: Coroutine[Any, Any, None], *, wait_seconds: float) -> None:
        """Make a call that raises nothing, and wait for it for a while."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=wait_seconds)

    async def finish(self, seconds: float) -> None:
        """Wait for the calls that go on, and cancel those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
