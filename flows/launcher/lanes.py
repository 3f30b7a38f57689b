"""Blocking calls in daemon threads, in lanes: a call that hangs delays only its own lane."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

from flows.launcher.bounded import fulfil

T = TypeVar("T")


class Lanes:
    """Lanes of equal width, created when first used.

    A thread ends when no call waits for it. No thread keeps the process from exiting.
    """

    def __init__(self, *, width: int) -> None:
        self._width = width
        self._lanes: dict[Hashable, _Lane] = {}
        self._lock = threading.Lock()

    async def run(self, lane: Hashable, function: Callable[[], T], *, timeout: float | None) -> T:
        """Call `function` in a thread of its lane, once one is free, and return the result.

        Raises:
            TimeoutError: No result in so many seconds. A call that has started continues, and
                keeps its place in the lane.
        """
        with self._lock:
            entered = self._lanes.setdefault(lane, _Lane(str(lane), width=self._width))
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(entered.submit(function))


class _Lane:
    def __init__(self, name: str, *, width: int) -> None:
        self._name = name
        self._width = width
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, function: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._lock:
            # Cancelled calls must not pile up behind calls that hang.
            self._waiting = deque(call for call in self._waiting if not call[0].cancelled())
            self._waiting.append((future, function))
            if self._threads < self._width:
                self._threads += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                future, function = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                fulfil(future, function)
