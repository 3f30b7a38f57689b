"""A cluster that hangs holds up no other."""

import asyncio
import threading

import pytest

from flows.launcher.lanes import Lanes
from tests.support.waiting import eventually


@pytest.fixture
def release() -> threading.Event:
    return threading.Event()


async def test_a_lane_full_of_hung_calls_holds_up_no_other(release: threading.Event) -> None:
    lanes = Lanes(width=2)
    hung = [asyncio.create_task(lanes.run("dead", release.wait, timeout=60)) for _ in range(9)]
    try:
        answers = [await lanes.run(f"lane {n}", lambda: 7, timeout=5) for n in range(20)]
        assert answers == [7] * 20
        assert not any(call.done() for call in hung)
    finally:
        release.set()
        assert await asyncio.gather(*hung) == [True] * 9


async def test_a_call_that_timed_out_keeps_its_place_and_those_behind_it_are_never_made(
    release: threading.Event,
) -> None:
    lanes = Lanes(width=1)
    made: list[str] = []
    with pytest.raises(TimeoutError):
        await lanes.run("lane", release.wait, timeout=0.05)
    with pytest.raises(TimeoutError):
        await lanes.run("lane", lambda: made.append("given up"), timeout=0.05)
    release.set()
    await lanes.run("lane", lambda: made.append("made"), timeout=5)
    assert made == ["made"]


async def test_calls_that_were_given_up_do_not_pile_up_behind_one_that_hangs(
    release: threading.Event,
) -> None:
    lanes = Lanes(width=1)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            await lanes.run("lane", release.wait, timeout=0.02)
    release.set()
    assert len(lanes._lanes["lane"]._waiting) <= 1


async def test_what_a_call_raises_is_raised_to_its_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        await Lanes(width=1).run("lane", lambda: 1 / 0, timeout=5)


async def test_a_lane_at_rest_has_no_thread() -> None:
    lanes = Lanes(width=4)
    await asyncio.gather(*(lanes.run("lane at rest", lambda: 1, timeout=5) for _ in range(40)))
    await eventually(lambda: "lane at rest" not in {t.name for t in threading.enumerate()})
