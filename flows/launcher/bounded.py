"""Blocking calls that nobody waits for longer than they may take."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_FRESH_SECONDS: Final = 10.0
"""How old an answer may be that came too late for the first who asked."""


async def in_time(function: Callable[[], T], *, timeout_seconds: float) -> T | None:
    """The result of a blocking call; None when the time is up.

    The call goes on in a thread of its own, which nobody waits for: one of a pool would keep the
    pool busy, and the process from ending.
    """
    answer = asyncio.wrap_future(start_call(function))
    try:
        await asyncio.wait([answer], timeout=timeout_seconds)
        return answer.result() if answer.done() else None
    finally:
        # Whoever it comes for now may be gone, and the event loop closed.
        answer.cancel()


def call_within(function: Callable[[], T], *, within_seconds: float | None) -> T:
    """The result of a blocking call, for threads; as `in_time`.

    Args:
        function: The call.
        within_seconds: How long to wait for it; None: as long as it takes, in this thread.

    Raises:
        TimeoutError: The time was up.
    """
    if within_seconds is None:
        return function()
    return start_call(function).result(within_seconds)


class Looks:
    """Questions to several hosts or clouds, with one thread for each at most.

    One that hangs holds up itself alone, however often it is asked: who asks meanwhile joins
    the look under way, and an answer that came too late is there for the next to ask.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, tuple[Future[Any], list[float]]] = {}

    def answers(self, calls: Mapping[K, Callable[[], T]], *, within_seconds: float) -> dict[K, T]:
        """The answers that come in time, by what was asked. Blocks.

        Raises:
            Exception: What one of the calls raised.
        """
        looks = {key: self._look(key, call) for key, call in calls.items()}
        wait(looks.values(), timeout=within_seconds)
        return {key: self._take(key, look) for key, look in looks.items() if look.done()}

    async def answer(self, key: Hashable, call: Callable[[], T], *, within_seconds: float) -> T:
        """The answer to one question.

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
    """A blocking call under way in a thread of its own, which keeps no process from ending."""
    answer: Future[T] = Future()
    # From now on a waiter that is cancelled cannot cancel it.
    answer.set_running_or_notify_cancel()

    def call() -> None:
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
            answer.set_exception(error)

    threading.Thread(target=call, daemon=True, name="bounded").start()
    return answer
