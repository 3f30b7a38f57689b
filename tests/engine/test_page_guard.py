"""What a browser may do with the embedded server, without Prefect."""

from collections.abc import Callable

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from mcp_server.engine.page_guard import PageGuard

ORIGIN = "http://127.0.0.1:20000"


def answering(make: Callable[[], Response]) -> Callable[[object], Response]:
    return lambda _: make()


@pytest.fixture
def guard() -> PageGuard:
    routes = [
        Route("/", answering(lambda: HTMLResponse("<html></html>"))),
        Route("/api/health", answering(lambda: JSONResponse(content=True))),
    ]
    return PageGuard(Starlette(routes=routes), api_url=f"{ORIGIN}/api")


async def get(guard: PageGuard, path: str, host: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=guard)
    async with httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        return await client.get(path, headers={"Host": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:20000", "localhost:1", "LOCALHOST"])
async def test_the_servers_own_names_are_answered(guard: PageGuard, host: str) -> None:
    assert (await get(guard, "/api/health", host)).json() is True


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:20000", "127.0.0.1.evil.example", "0.0.0.0", "", "@"]
)
@pytest.mark.parametrize("path", ["/", "/api/health"])
async def test_a_name_that_only_leads_here_is_refused(
    guard: PageGuard, path: str, host: str
) -> None:
    assert (await get(guard, path, host)).status_code == 400


async def test_pages_may_call_the_server_alone(guard: PageGuard) -> None:
    policy = (await get(guard, "/", "localhost")).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'self'"
    assert rules["connect-src"] == f"'self' {ORIGIN} ws://127.0.0.1:20000"
    assert all("*" not in sources and "https:" not in sources for sources in rules.values())


async def test_an_answer_of_the_api_carries_no_policy(guard: PageGuard) -> None:
    assert "content-security-policy" not in (await get(guard, "/api/health", "localhost")).headers
