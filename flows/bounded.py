"""Blocking calls that nobody waits for longer than they may take."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_time(function: Callable[[], T], *, timeout_seconds: float) -> T | None:
    """The result of a blocking call; None when the time is up.

    The call goes on in a thread of its own, which nobody waits for: one of a pool would keep the
    pool busy, and the process from ending.
    """
    answer = asyncio.wrap_future(begun(function))
    try:
        await asyncio.wait([answer], timeout=timeout_seconds)
        return answer.result() if answer.done() else None
    finally:
        # Whoever it comes for now may be gone, and the event loop closed.
        answer.cancel()


def bounded(function: Callable[[], T], *, within_seconds: float | None) -> T:
    """The result of a blocking call, for threads; as `in_time`.

    Args:
        function: The call.
        within_seconds: How long to wait for it; None: as long as it takes, in this thread.

    Raises:
        TimeoutError: The time was up.
    """
    if within_seconds is None:
        return function()
    return begun(function).result(within_seconds)


def begun(function: Callable[[], T]) -> "Future[T]":
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
