"""SkyPilot's client where there is no API server: it starts none, and says what to do."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from flows.errors import CloudUnavailable, ClusterUnreachable
from flows.launcher.sky_server import SkyServer


@pytest.fixture
def unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, unused_url: str) -> Iterator[SkyServer]:
    """A client that was told of no server, and would start one at that address."""
    from sky.server import common as untyped

    common: Any = untyped

    def refused(*_args: object, **_kwargs: object) -> None:
        pytest.fail("an API server was about to be started")

    caches = [common.get_server_url, common.is_api_server_local]
    monkeypatch.delenv("SKYPILOT_API_SERVER_ENDPOINT", raising=False)
    monkeypatch.setattr(common, "DEFAULT_SERVER_URL", unused_url)
    monkeypatch.setattr(common, "AVAILABLE_LOCAL_API_SERVER_URLS", [unused_url])
    monkeypatch.setattr(common.subprocess, "Popen", refused)
    for cache in caches:
        cache.cache_clear()
    yield SkyServer()
    for cache in caches:
        cache.cache_clear()


def test_no_server_is_an_unavailable_cloud_with_what_to_do(server: SkyServer) -> None:
    with pytest.raises(CloudUnavailable, match=r"sky api start.*SKYPILOT_API_SERVER_ENDPOINT"):
        server.check()


def test_no_call_starts_a_server_or_prints(
    server: SkyServer, capfd: pytest.CaptureFixture[str]
) -> None:
    for call in (
        server.clusters,
        server.costs,
        lambda: server.queue("c"),
        lambda: server.requests("c"),
        lambda: server.cancel("c", "1"),
        lambda: server.stop("c"),
        lambda: server.down("c"),
        lambda: next(server.log("c", "1")),
    ):
        with pytest.raises(ClusterUnreachable, match="sky api start"):
            call()
    assert capfd.readouterr().out == ""


def test_a_server_that_was_configured_and_is_away_is_unreachable(
    server: SkyServer, unused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sky.server import common as untyped

    common: Any = untyped
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", unused_url + "/far")
    common.get_server_url.cache_clear()
    with pytest.raises(ClusterUnreachable, match="/far does not answer"):
        server.check()
