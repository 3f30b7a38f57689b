"""Waiting for something to become true, with a deadline."""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

import anyio
import psutil

T = TypeVar("T")

_INTERVAL_SECONDS = 0.05


@overload
async def eventually(
    check: Callable[[], Awaitable[T | Literal[False] | None]],
    *,
    timeout: float = ...,
    interval: float = ...,
) -> T: ...


@overload
async def eventually(
    check: Callable[[], T | Literal[False] | None],
    *,
    timeout: float = ...,
    interval: float = ...,
) -> T: ...


async def eventually(
    check: Callable[[], Any],
    *,
    timeout: float = 10.0,
    interval: float = _INTERVAL_SECONDS,
) -> Any:
    """The first truthy value of `check()`.

    Raises:
        AssertionError: No truthy value within `timeout` seconds; says the last one seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true within {timeout:g} s; last seen: {value!r}")
        await anyio.sleep(interval)


def eventually_sync(
    check: Callable[[], T | Literal[False] | None],
    *,
    timeout: float = 10.0,
    interval: float = _INTERVAL_SECONDS,
) -> T:
    """The first truthy value of `check()`.

    Raises:
        AssertionError: No truthy value within `timeout` seconds; says the last one seen.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true within {timeout:g} s; last seen: {value!r}")
        time.sleep(interval)


def is_gone(pid: int) -> bool:
    """Whether the process has ended, collected by its parent or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
