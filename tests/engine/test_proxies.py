"""Proxies of the environment: none sees the loopback or keeps a client from starting."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
import httpx2
import pytest

from flows.core.proxies import is_loopback, proxy_changes
from flows.machine_checks.hub import Access, Hub, Question
from mcp_server.engine.rest import rest
from mcp_server.engine.values import Connection
from mcp_server.prefect_api.gateway import PrefectGateway

PROXIES = ("socks5://127.0.0.1:9", "socks5h://u:p@127.0.0.1:9", "socks://127.0.0.1:9/",
           "SOCKS5://127.0.0.1:9", "http://127.0.0.1:9", "127.0.0.1:9", "https://127.0.0.1:9",
           "ftp://127.0.0.1:9", "://",
           "nonsense:", "http://[::1", "socks4://127.0.0.1:9")  # fmt: skip
NAMES = ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "https_proxy"])
@pytest.mark.parametrize("exempt", [None, "intranet", "127.0.0.1,localhost", "*"])
def test_every_client_starts_and_spares_the_loopback(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, exempt: str | None
) -> None:
    environ = {name: proxy} | ({"NO_PROXY": exempt} if exempt else {})
    changed = environ | proxy_changes(environ)
    for key in (*NAMES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(key, raising=False)
    for key, value in changed.items():
        monkeypatch.setenv(key, value)
    for module in (httpx, httpx2):
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with module.Client(verify=False) as client:
                transport = client._transport_for_url(module.URL(f"http://{host}:1/api"))
                assert transport is client._transport, host


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://127.0.0.1:4200/api", True), ("http://localhost/api", True), ("http://[::1]:1", True),
     ("http://127.1.2.3", True), ("https://127.0.0.1.example.org", False),
     ("https://api.prefect.cloud/api", False), ("http://[::1", False), ("", False)],
)  # fmt: skip
def test_a_loopback_is_known_by_its_host(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_an_environment_without_a_proxy_stays_unchanged() -> None:
    assert proxy_changes({"NO_PROXY": "a", "PATH": "/bin"}) == {}
    assert proxy_changes({"ALL_PROXY": ""}) == {}


@dataclass
class LoopbackServer:
    """A server that counts the paths it was asked for."""

    paths: list[str] = field(default_factory=list[str])

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.paths.append(head.split()[1].decode())
        body = b'"3.9.1"'
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()


@dataclass
class FixedEngine:
    """An engine that is where a person's PREFECT_API_URL says."""

    api_url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    ui_url: str | None = None
    is_served: bool = True
    embedded: bool = False

    async def connection(self) -> "FixedEngine":
        return self

    async def revive(self) -> "FixedEngine":
        return self


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_server_on_the_loopback_is_reached_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    served = LoopbackServer()
    server = await asyncio.start_server(served.answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api"

        def ask() -> str:
            connection = Connection(
                api_url=url, auth_string=None, ui_url="http://127.0.0.1:1", embedded=False
            )
            with rest(connection, timeout=5) as client:
                return client.version()

        assert await asyncio.to_thread(ask) == "3.9.1"
        gateway = PrefectGateway(FixedEngine(url), work_pool="p", timeout_seconds=5)  # pyright: ignore[reportArgumentType]
        client = gateway._client_for(FixedEngine(url))
        assert (await client.get(f"{url}/health")).status_code == 200
        await gateway.aclose()
    assert served.paths == ["/api/admin/version", "/api/health"]


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_hub_behind_a_proxy_that_cannot_be_used_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    hub = Hub({"HF_ENDPOINT": "http://hub.invalid"}, timeout_seconds=5)
    report = await hub.look([Question("a/b", "model")], with_token=False)
    assert list(report.access.values()) == [Access.UNREACHABLE]
