"""A worker learns of runs from Prefect's events, and looks for itself where none come."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from logging import getLogger
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State, StateDetails, StateType
from prefect.settings import (
    PREFECT_WORKER_PREFETCH_SECONDS,
    PREFECT_WORKER_QUERY_SECONDS,
    temporary_settings,
)

from flows.core.run_labels import RunLabels
from flows.core.states import JobState, TerminationReason
from flows.worker.run_news import Looks, RunNews
from tests.flows.bench import Bench
from tests.support.waiting import eventually

NEVER = 3600.0


@pytest.fixture
def by_news_alone(bench: Bench) -> AsyncIterator[Bench] | Any:
    """Workers that would look for runs once an hour."""
    bench.settings = bench.settings.model_copy(update={"worker_poll_seconds": NEVER})
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: NEVER}):
        yield bench


@pytest.mark.engine
async def test_events_alone_start_and_cancel_runs(by_news_alone: Bench) -> None:
    bench = by_news_alone
    async with bench.worker():
        before = await bench.submit("hold")
        await bench.reaches(before, JobState.RUNNING)
        after = await bench.submit("exit 0")
        assert (await bench.ending(after))[1] is TerminationReason.COMPLETED
        await bench.cancel(before)
        assert (await bench.ending(before))[0] is JobState.CANCELLED


@pytest.mark.engine
async def test_a_run_whose_time_comes_later_is_expected(by_news_alone: Bench) -> None:
    bench = by_news_alone
    async with bench.worker():
        at = datetime.now(UTC) + timedelta(seconds=3)
        job_id = await bench.submit("exit 0")
        await bench.client.set_flow_run_state(
            job_id,
            State(
                type=StateType.SCHEDULED,
                state_details=StateDetails.model_validate({"scheduled_time": at}),
            ),
            force=True,
        )
        run = await bench.reaches(job_id, JobState.SUCCEEDED)
        assert run.start_time is not None
        assert run.start_time >= at


@pytest.mark.engine
async def test_a_job_that_waits_for_a_slot_starts_when_another_ends(by_news_alone: Bench) -> None:
    bench = by_news_alone
    bench.settings = bench.settings.model_copy(update={"local_slots": 1})
    async with bench.worker():
        first = await bench.submit("hold")
        await bench.reaches(first, JobState.RUNNING)
        second = await bench.submit("exit 0")
        await bench.reaches(second, JobState.QUEUED)
        await bench.cancel(first)
        assert (await bench.ending(second))[1] is TerminationReason.COMPLETED


@pytest.mark.engine
async def test_a_cancel_that_is_forced_later_is_seen_without_an_event(bench: Bench) -> None:
    # So that a look that nothing asks for never comes.
    with temporary_settings({PREFECT_WORKER_PREFETCH_SECONDS: NEVER}):
        async with bench.worker():
            job_id = await bench.submit("hold")
            (await bench.launched(job_id)).stubborn = True
            await bench.reaches(job_id, JobState.RUNNING)
            await bench.cancel(job_id)
            await bench.reaches(job_id, JobState.CANCELLING)
            forced = RunLabels(force_cancel=True).as_labels()
            await bench.client.update_flow_run_labels(job_id, forced)
            assert (await bench.ending(job_id))[0] is JobState.CANCELLED


@pytest.mark.engine
async def test_without_events_a_worker_looks_as_often_as_it_must(
    bench: Bench,
) -> None:
    @asynccontextmanager
    async def refuse(*_: object, **__: object) -> AsyncGenerator[AsyncIterator[Any]]:
        raise OSError("no websocket")
        yield

    async with bench.worker(subscribe=refuse):
        job_id = await bench.submit("hold")
        await bench.reaches(job_id, JobState.RUNNING)
        await bench.cancel(job_id)
        assert (await bench.ending(job_id))[0] is JobState.CANCELLED


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Given:
    """Looks with a clock, and news to rely on or not."""

    clock: Clock = field(default_factory=Clock)
    has_news: bool = True
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        self.looks = Looks(often=0.5, seldom=8.0, has_news=lambda: self.has_news, clock=self.clock)
        self.look()

    def look(self) -> None:
        with self.looks.looking():
            pass

    def is_due_after(self, seconds: float) -> bool:
        self.clock.now += seconds
        return self.looks.is_due()


def test_without_news_looks_are_seldom_as_long_as_events_come() -> None:
    given = Given()
    assert not given.is_due_after(7.0)
    assert given.is_due_after(1.0)
    given.look()
    given.has_news = False
    assert not given.is_due_after(0.3)
    assert given.is_due_after(0.2)


def test_news_asks_for_a_look_at_once_and_another_soon() -> None:
    given = Given()
    given.looks.tell()
    assert given.is_due_after(0.0)
    given.look()
    assert not given.is_due_after(0.3)
    assert given.is_due_after(0.2)
    given.look()
    assert not given.is_due_after(5.0)


def test_news_during_a_look_asks_for_the_next() -> None:
    given = Given()
    with given.looks.looking():
        given.looks.tell()
    assert given.looks.is_due()


def test_a_look_that_fails_is_repeated_soon() -> None:
    given = Given()
    with pytest.raises(OSError, match="refused"), given.looks.looking():
        raise OSError("refused")
    assert not given.is_due_after(0.3)
    assert given.is_due_after(0.2)


class Events:
    """What a subscriber of Prefect's events gives, connection by connection."""

    def __init__(self, *connections: list[tuple[str, UUID]]) -> None:
        self._connections = list(connections)

    @asynccontextmanager
    async def subscribe(self, *_: object, **__: object) -> AsyncGenerator[AsyncIterator[Any]]:
        if not self._connections:
            await asyncio.Event().wait()
        yield self._events(self._connections.pop(0))

    async def _events(self, events: list[tuple[str, UUID]]) -> AsyncIterator[Any]:
        for name, run_id in events:
            resource = SimpleNamespace(id=f"prefect.flow-run.{run_id}")
            yield SimpleNamespace(event=name, resource=resource)
        raise ConnectionResetError("cut")


async def test_a_cut_connection_is_news_itself_and_is_made_again() -> None:
    active = uuid4()
    events = Events([], [("prefect.flow-run.Cancelling", active)])
    news = RunNews(
        is_active=active.__eq__,
        is_paused=active.__eq__,
        often=0.01,
        seldom=NEVER,
        retry_seconds=0.01,
        logger=getLogger(),
        subscribe=events.subscribe,
    )
    seen: list[str] = []

    async def look() -> None:
        with news.ends.looking():
            seen.append("look")

    tasks = [asyncio.create_task(work) for work in (news.follow(), news.ends.follow(look))]
    await eventually(lambda: len(seen) >= 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    ("name", "is_paused"),
    [("Paused", False), ("Suspended", False), ("Resuming", True), ("Running", True)],
)
async def test_a_pause_of_an_active_run_and_its_end_are_news(name: str, *, is_paused: bool) -> None:
    active, other = uuid4(), uuid4()
    come: asyncio.Queue[tuple[str, UUID]] = asyncio.Queue()

    @asynccontextmanager
    async def subscribe(*_: object, **__: object) -> AsyncGenerator[AsyncIterator[Any]]:
        yield follow()

    async def follow() -> AsyncIterator[Any]:
        while True:
            event, run_id = await come.get()
            resource = SimpleNamespace(id=f"prefect.flow-run.{run_id}")
            yield SimpleNamespace(event=f"prefect.flow-run.{event}", resource=resource)
            come.task_done()

    news = RunNews(
        is_active=active.__eq__,
        is_paused=lambda run: is_paused and run == active,
        often=NEVER,
        seldom=NEVER,
        retry_seconds=NEVER,
        logger=getLogger(),
        subscribe=subscribe,
    )
    following = asyncio.create_task(news.follow())
    come.put_nowait(("Pending", other))
    await come.join()
    with news.ends.looking():  # at the connection, which is news too
        pass
    for event in ("Running", "Paused"):
        come.put_nowait((event, other))
    await come.join()
    assert not news.ends.is_due()
    come.put_nowait((name, active))
    await come.join()
    assert news.ends.is_due()
    following.cancel()
