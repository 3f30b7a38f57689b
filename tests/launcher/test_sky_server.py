"""SkyPilot's client where the API server is not there, or does not answer as it should."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flows.core.errors import CloudUnavailable, ClusterUnreachable
from flows.launcher.sky.client import SkyClient
from flows.launcher.sky.errors import SkyFailed
from flows.launcher.sky.server import SkyServer
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


def test_what_skypilot_prints_at_a_launch_is_no_output_of_ours(
    server: SkyServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sky
    from oumi.core.configs import JobConfig, JobResources

    def prints(*_: object, **__: object) -> str:
        print("Considered resources (1 node):")
        return "request"

    monkeypatch.setattr(sky, "launch", prints)
    monkeypatch.setattr(sky, "exec", prints)
    job = JobConfig(name="x", run="true", resources=JobResources(cloud="aws"))
    assert server.launch(job, "c", autostop_minutes=None) == "request"
    assert server.exec(job, "c") == "request"
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("Considered resources") == 2
    print("ours again")
    assert capfd.readouterr().out == "ours again\n"


def test_a_server_that_is_looked_for_in_vain_is_not_waited_for(
    server: SkyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sky.server import common

    answer = threading.Event()
    monkeypatch.setattr(common, "check_server_healthy", lambda: answer.wait(60))
    try:
        with pytest.raises(ClusterUnreachable, match=r"did not answer within 0\.1 s"):
            server.check(within_seconds=0.1)
    finally:
        answer.set()


def test_a_server_that_was_configured_and_is_away_is_unreachable(
    server: SkyServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sky.server import common as untyped

    common: Any = untyped
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", url + "/far")
    common.get_server_url.cache_clear()
    with pytest.raises(ClusterUnreachable, match="/far does not answer"):
        server.check()


class Scripted:
    """An API server at `url` that is healthy and has no data, except what its attributes set.

    Attributes:
        silent: How many calls of a path get no answer, before the next ones do.
        asked: The paths that were called.
    """

    def __init__(self, url: str) -> None:
        self.silent: dict[str, int] = {}
        self.known: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.ended = threading.Event()
        port = urlsplit(url).port
        assert port is not None
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scripted.answer(self)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Says nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        path = urlsplit(call.path).path
        self.asked.append(path)
        if self.silent.get(path, 0) > 0:
            self.silent[path] -= 1
            self.ended.wait(30)
            return
        status, body = 404, {"detail": "not found"}
        if path == "/api/health":
            api_version, version = _versions().values()
            health = {"status": "healthy", "api_version": api_version, "version": version}
            status, body = 200, {**health, "commit": ""}
        elif path == "/api/status":
            status, body = 200, self.known
        data = json.dumps(body).encode()
        call.send_response(status)
        for name, value in {**_versions(), "Content-Length": str(len(data))}.items():
            call.send_header(name, value)
        call.end_headers()
        call.wfile.write(data)


def _versions() -> dict[str, str]:
    import sky
    from sky.server import constants

    return {
        constants.API_VERSION_HEADER: str(constants.API_VERSION),
        constants.VERSION_HEADER: sky.__version__,
    }


@pytest.fixture
def impatient() -> SkyServer:
    return SkyServer(SkyClient(silence_seconds=0.3, health_seconds=0.3))


@pytest.fixture
def scripted(url: str) -> Iterator[Scripted]:
    scripted = Scripted(url)
    thread = threading.Thread(target=scripted.http.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield scripted
    scripted.ended.set()
    scripted.http.shutdown()
    thread.join()
    scripted.http.server_close()


def test_a_result_that_is_long_in_coming_is_asked_for_again(
    impatient: SkyServer, scripted: Scripted
) -> None:
    scripted.silent["/api/get"] = 2
    with pytest.raises(ClusterUnreachable, match="has forgotten it"):
        impatient.result("r1")
    got = [path for path in scripted.asked if path != "/api/status"]
    assert got == ["/api/get", "/api/health"] * 2 + ["/api/get"]


def test_a_server_that_falls_silent_is_given_up(impatient: SkyServer, scripted: Scripted) -> None:
    scripted.silent = {"/api/get": 1, "/api/health": 9}
    with pytest.raises(ClusterUnreachable, match="could not be asked for the result of a launch"):
        impatient.result("r1")
    assert scripted.asked == ["/api/get", "/api/health"]


def test_a_launch_that_the_server_has_forgotten_is_not_one_that_failed(
    impatient: SkyServer, scripted: Scripted, tmp_path: Path
) -> None:
    with pytest.raises(ClusterUnreachable, match="was restarted during the launch"):
        impatient.wait_for_launch("r1", tmp_path / "launch.log")
    scripted.known = [{"request_id": "r1"}]
    with pytest.raises(SkyFailed, match="not found"):
        impatient.wait_for_launch("r1", tmp_path / "launch.log")
