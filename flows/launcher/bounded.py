"""Blocking calls with a limit on how long their callers wait."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_FRESH_SECONDS: Final = 10.0
"""How long an answer that came too late for its first caller stays valid for the next."""


async def in_time(function: Callable[[], T], *, timeout_seconds: float) -> T | None:
    """Run a blocking call and return its result; None when the time is up.

    The call continues in a thread of its own after that. A pool's thread would stay busy, and would
    keep the process from ending.
    """
    answer = asyncio.wrap_future(start_call(function))
    try:
        await asyncio.wait([answer], timeout=timeout_seconds)
        return answer.result() if answer.done() else None
    finally:
        # The answer may come after its caller has left and the event loop has closed.
        answer.cancel()


def call_within(function: Callable[[], T], *, within_seconds: float | None) -> T:
    """Run a blocking call as `in_time` does, for callers that are threads.

    Args:
        function: The call.
        within_seconds: How long to wait for it; None: call it in this thread, without a limit.

    Raises:
        TimeoutError: The call took longer.
    """
    if within_seconds is None:
        return function()
    return start_call(function).result(within_seconds)


class Looks:
    """Queries to several hosts or clouds, with at most one thread for each.

    A host that hangs delays only the queries to itself, and uses one thread however many come: a
    caller joins the query that is running. An answer that came too late goes to the next caller.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, tuple[Future[Any], list[float]]] = {}

    def answers(self, calls: Mapping[K, Callable[[], T]], *, within_seconds: float) -> dict[K, T]:
        """Return the answers that come in time, by key. Blocks.

        Raises:
            Exception: What one of the calls raised.
        """
        looks = {key: self._look(key, call) for key, call in calls.items()}
        wait(looks.values(), timeout=within_seconds)
        return {key: self._take(key, look) for key, look in looks.items() if look.done()}

    async def answer(self, key: Hashable, call: Callable[[], T], *, within_seconds: float) -> T:
        """Return the answer to one query.

        Raises:
            TimeoutError: It did not come in time.
        """
        look = self._look(key, call)
        waiting = asyncio.wrap_future(look)
        try:
            await asyncio.wait([waiting], timeout=within_seconds)
            if waiting.done():
                return self._take(key, look)
        finally:
            waiting.cancel()
        raise TimeoutError

    def _look(self, key: Hashable, call: Callable[[], T]) -> "Future[T]":
        with self._lock:
            look, ended = self._under_way.get(key, (None, [0.0]))
            is_old = bool(ended) and time.monotonic() - ended[0] > _FRESH_SECONDS
            if look is None or is_old:
                times: list[float] = []
                look = start_call(call)
                look.add_done_callback(lambda _: times.append(time.monotonic()))
                self._under_way[key] = look, times
            return look

    def _take(self, key: Hashable, look: "Future[T]") -> T:
        with self._lock:
            if self._under_way.get(key, (None,))[0] is look:
                del self._under_way[key]
        return look.result()


def start_call(function: Callable[[], T]) -> "Future[T]":
    """Start a blocking call in a daemon thread, which does not keep the process from ending."""
    answer: Future[T] = Future()
    # From here on, cancelling a waiter does not cancel the call.
    answer.set_running_or_notify_cancel()
    threading.Thread(target=fulfil, args=(answer, function), daemon=True, name="bounded").start()
    return answer


def fulfil(answer: "Future[T]", function: Callable[[], T]) -> None:
    """Call a function, and put its result or its error into a future, as an executor does."""
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - raised where the result is read
        answer.set_exception(error)
    else:
        answer.set_result(result)
