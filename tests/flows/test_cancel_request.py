"""What the server asks of one run only ever adds up."""

from uuid import uuid4

import pytest

from flows.core.settings import Settings
from flows.job.runtime import CancelRequest, Runtime
from tests.support.fake_launcher import FakeLauncher


@pytest.fixture
async def request_() -> CancelRequest:
    return CancelRequest()


def facts(request: CancelRequest) -> tuple[bool, bool, bool, bool]:
    return request.wanted.is_set(), request.force, request.concluded, request.news.is_set()


async def test_nothing_is_asked_at_first(request_: CancelRequest) -> None:
    assert facts(request_) == (False, False, False, False)


async def test_a_request_is_news_once(request_: CancelRequest) -> None:
    request_.ask(force=False, concluded=False)
    assert facts(request_) == (True, False, False, True)
    request_.news.clear()
    request_.ask(force=False, concluded=False)
    assert facts(request_) == (True, False, False, False)


async def test_what_is_added_is_news(request_: CancelRequest) -> None:
    request_.ask(force=False, concluded=False)
    request_.news.clear()
    request_.ask(force=True, concluded=False)
    assert facts(request_) == (True, True, False, True)
    request_.news.clear()
    request_.ask(force=False, concluded=True)
    assert facts(request_) == (True, True, True, True)


async def test_nothing_is_taken_back(request_: CancelRequest) -> None:
    request_.ask(force=True, concluded=True)
    request_.news.clear()
    request_.ask(force=False, concluded=False)
    assert facts(request_) == (True, True, True, False)


async def test_a_run_has_a_request_while_it_is_executed() -> None:
    runtime = Runtime(FakeLauncher(), Settings(), observes_cancels=True)
    job_id = uuid4()
    with runtime.cancel_request(job_id) as request_:
        assert runtime.cancels == {job_id: request_}
    assert runtime.cancels == {}
