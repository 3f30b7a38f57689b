"""What the server asks of one run only ever adds up."""

import asyncio
from uuid import uuid4

import pytest

from flows.core.settings import Settings
from flows.job.runtime import CancelRequest, CancelState, Runtime
from tests.support.fake_launcher import FakeLauncher

PATIENCE_SECONDS = 20


@pytest.fixture
async def request_() -> CancelRequest:
    return CancelRequest()


async def test_nothing_is_asked_at_first(request_: CancelRequest) -> None:
    assert request_.state == CancelState()


async def test_a_repeated_request_is_no_change(request_: CancelRequest) -> None:
    request_.ask(force=False, concluded=False)
    asked = request_.state
    request_.ask(force=False, concluded=False)
    assert request_.state == asked == CancelState(wanted=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(request_.wait_for_change(asked), 0)


async def test_every_addition_is_a_change(request_: CancelRequest) -> None:
    request_.ask(force=False, concluded=False)
    wait = asyncio.create_task(request_.wait_for_change(request_.state))
    request_.ask(force=True, concluded=False)
    await asyncio.wait_for(wait, PATIENCE_SECONDS)
    wait = asyncio.create_task(request_.wait_for_change(request_.state))
    request_.ask(force=False, concluded=True)
    await asyncio.wait_for(wait, PATIENCE_SECONDS)
    assert request_.state == CancelState(wanted=True, forced=True, concluded=True)


async def test_nothing_is_taken_back(request_: CancelRequest) -> None:
    request_.ask(force=True, concluded=True)
    request_.ask(force=False, concluded=False)
    assert request_.state == CancelState(wanted=True, forced=True, concluded=True)


async def test_a_wait_for_force_goes_on_after_a_request_without_it(
    request_: CancelRequest,
) -> None:
    forced = asyncio.create_task(request_.wait_until_forced())
    wanted = asyncio.create_task(request_.wait_until_wanted())
    request_.ask(force=False, concluded=False)
    await asyncio.wait_for(wanted, PATIENCE_SECONDS)
    assert not forced.done()
    request_.ask(force=True, concluded=False)
    await asyncio.wait_for(forced, PATIENCE_SECONDS)


async def test_a_run_has_a_request_while_it_is_executed() -> None:
    runtime = Runtime(FakeLauncher(), Settings(), observes_cancels=True)
    job_id = uuid4()
    with runtime.cancel_request(job_id) as request_:
        assert runtime.cancels == {job_id: request_}
    assert runtime.cancels == {}
