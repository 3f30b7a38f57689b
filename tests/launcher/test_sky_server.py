"""SkyPilot's client where there is no API server: it starts none, and says what to do."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.errors import CloudUnavailable, ClusterUnreachable
from flows.launcher.sky_server import SkyServer
from tests.support.no_sky import no_api_server


@pytest.fixture
def url() -> Iterator[str]:
    with no_api_server() as url:
        yield url


@pytest.fixture
def server(url: str) -> SkyServer:
    return SkyServer()


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
    server: SkyServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sky.server import common as untyped

    common: Any = untyped
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", url + "/far")
    common.get_server_url.cache_clear()
    with pytest.raises(ClusterUnreachable, match="/far does not answer"):
        server.check()
