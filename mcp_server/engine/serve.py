"""The embedded Prefect server's own process: ``mcp_server.engine.serve DIR PORT FD``.

The listening socket is inherited, so the port cannot be lost between choosing and serving it,
and clients that connect during the start wait in its backlog instead of being refused.

Prefect 3.8.8 on SQLite needs two things done for it under bursts, both measured with CPython
3.11.7, aiosqlite 0.22.1 and SQLAlchemy 2.0.58. Its connection pool settings are no remedy for
either: they are not applied to SQLite.

1. The cyclic garbage collector must not run while a connection is in use. On the event loop's
   thread it finalises an unreachable cursor and waits for that connection's mutex, whose holder
   waits for the database's write lock, which only the event loop can release: every call stalls
   for the 60 s of the busy timeout and fails with "database is locked".
2. Write transactions must take turns. Prefect begins them DEFERRED, so one that read before
   another committed cannot write any more and fails at once; the call answers 503.

100 runs created and taken through four states over REST, 900 calls, 30 at a time, 2 cores:

| server | slowest call | 503s |
|---|---|---|
| as Prefect starts it | 60 s freezes, "database is locked" | many |
| garbage collected when idle | 7 s, with retries | 95 in 360 calls, 8 at a time |
| and BEGIN IMMEDIATE | 5-11 s | 0 |
| and a queue of writers, as here | 0.8-1.7 s (100 at a time: 2.2 s) | 0 |

With Prefect 3.9.1 and SQLAlchemy 2.1.9 the second is still needed: without the queue 640 of 1,504
answers were 503s. The first was not seen with the queue, in 900 calls with the usual collector and
in 1,350 with one that ran all the time. That was without a worker, so the remedy stays.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction
    from starlette.types import ASGIApp

COLLECT_SECONDS: Final = 30.0
COLLECT_OBJECTS: Final = 20_000
IDLE_POLL_SECONDS: Final = 0.02
BACKGROUND_LOOK: Final = timedelta(seconds=2)
LOST_EVENT: Final = timedelta(seconds=3)
_LOOKBACK: Final = "PRECEDING_EVENT_LOOKBACK"
SHUTDOWN_SECONDS: Final = 3

# Longer than HTTP clients keep an idle connection (httpx: 5 s, uvicorn's own default), so that
# none of them sends a request down a connection that is just being closed.
KEEP_ALIVE_SECONDS: Final = 30

STARTUP_FAILED: Final = 3


async def serve(fd: int) -> bool:
    """Serve Prefect on the inherited listening socket `fd`; whether it ever started."""
    import uvicorn

    queue_writers()
    wait_briefly_for_lost_events()
    look_seldom_for_background_work()
    config = uvicorn.Config(
        create_app,
        factory=True,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        # Its clients are on this machine: to compress every event costs more than to send it.
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(config)
    collector = asyncio.create_task(collect_garbage_when_idle())
    try:
        with socket.socket(fileno=fd) as listener:
            await server.serve(sockets=[listener])
    finally:
        collector.cancel()
    return server.started


def create_app() -> "ASGIApp":
    """Prefect's application, guarded against pages of other hosts."""
    from prefect.server.api.server import create_app as create_prefect
    from prefect.settings import PREFECT_UI_API_URL

    from mcp_server.engine.page_guard import PageGuard

    return PageGuard(create_prefect(), api_url=str(PREFECT_UI_API_URL.value()))


def queue_writers() -> None:
    """Let Prefect's write transactions on SQLite begin one after the other."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin_one = AioSqliteConfiguration.begin_transaction
    turn = asyncio.Lock()
    writer: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def begin_transaction(
        self: AioSqliteConfiguration,
        session: "AsyncSession",
        with_for_update: bool = False,  # noqa: FBT001, FBT002 - the method it stands in for
    ) -> "AsyncGenerator[AsyncSessionTransaction]":
        nonlocal writer
        task = asyncio.current_task()
        if writer is task:
            # A transaction within a transaction would wait for itself for ever.
            async with begin_one(self, session, with_for_update) as transaction:
                yield transaction
            return
        async with turn:
            writer = task
            try:
                async with begin_one(self, session, with_for_update=True) as transaction:
                    yield transaction
            finally:
                writer = None

    AioSqliteConfiguration.begin_transaction = begin_transaction


def wait_briefly_for_lost_events() -> None:
    """Let automations see an event soon even if the one before it never comes.

    Prefect's automations hold back the event of a state that follows another within 5 minutes
    until the event of that one has come, for up to 15 minutes. It never comes for the first state
    of a run that a schedule made, nor for states from before a restart of this server.
    """
    from prefect.server.events import ordering
    from prefect.server.events.ordering import memory

    # In one process events hardly ever overtake each other.
    for module in (ordering, memory):
        setattr(module, _LOOKBACK, LOST_EVENT)


def look_seldom_for_background_work() -> None:
    """Let Prefect's background tasks, all of which can wait, cost an idle machine less.

    Their worker (docket 0.17) looks 4 times a second for tasks that have become due. New ones wake
    it at once all the same.
    """
    from docket import Worker
    from prefect.server.api import background_workers

    seldom = partial(
        Worker, minimum_check_interval=BACKGROUND_LOOK, scheduling_resolution=BACKGROUND_LOOK
    )
    setattr(background_workers, Worker.__name__, seldom)


async def collect_garbage_when_idle() -> None:
    """Collect cyclic garbage now and then, while no database connection is in use."""
    from prefect.server.database.configurations import ENGINES

    def connections_in_use() -> int:
        pools: list[Any] = [engine.pool for engine in ENGINES.values()]
        return sum(pool.checkedout() for pool in pools)

    frozen = False
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        if gc.get_count()[0] < COLLECT_OBJECTS:
            continue
        # A pool sends no signal when its last connection comes back.
        while connections_in_use():  # noqa: ASYNC110
            await asyncio.sleep(IDLE_POLL_SECONDS)
        gc.collect()
        if not frozen:
            # What survives the start is the application: no later collection need look at it.
            gc.freeze()
            frozen = True


def main() -> None:
    """Serve until a signal ends it."""
    gc.disable()
    sys.exit(0 if asyncio.run(serve(int(sys.argv[3]))) else STARTUP_FAILED)


if __name__ == "__main__":
    main()
