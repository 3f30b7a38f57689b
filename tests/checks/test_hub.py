import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flows.machine_checks.hub import Access, Hub, Question
from tests.checks.hub_server import HubServer, hub_server


@pytest.fixture
async def server() -> AsyncIterator[HubServer]:
    async with hub_server() as server:
        yield server


def hub_at(server: HubServer, home: Path, timeout: float = 5, **environ: str) -> Hub:
    given = {"HF_ENDPOINT": server.url, "HF_HOME": str(home), **environ}
    return Hub(given, timeout_seconds=timeout)


async def access(hub: Hub, name: str, kind: str = "model", revision: str = "main") -> Access:
    question = Question(name, kind, revision)
    return (await hub.look([question], with_token=True)).access[question]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("valid", Access.VALID),
        ("moved", Access.VALID),
        ("renamed", Access.VALID),
        ("circle", Access.UNREACHABLE),
        ("log-in", Access.UNREACHABLE),
        ("to-log-in", Access.UNREACHABLE),
        ("no-file", Access.VALID),
        ("gated", Access.GATED),
        ("gated-anonymous", Access.GATED),
        ("missing", Access.NOT_FOUND),
        ("missing-anonymous", Access.NOT_FOUND),
        ("plain-404", Access.NOT_FOUND),
        ("no-revision", Access.NO_REVISION),
        ("forbidden", Access.FORBIDDEN),
        ("broken", Access.UNREACHABLE),
        ("garbage", Access.UNREACHABLE),
        ("closes", Access.UNREACHABLE),
    ],
)
async def test_each_answer_of_the_hub_is_told_apart(
    server: HubServer, tmp_path: Path, name: str, found: Access
) -> None:
    assert await access(hub_at(server, tmp_path), f"org/{name}") is found


@pytest.mark.parametrize("name", ["hangs", "trickles"])
async def test_a_hub_that_does_not_come_to_an_end_costs_no_more_than_the_limit(
    server: HubServer, tmp_path: Path, name: str
) -> None:
    hub = hub_at(server, tmp_path, timeout=0.3)
    questions = [Question(f"org{number}/{name}", "model") for number in range(30)]
    before = time.monotonic()
    report = await hub.look([*questions, Question("org/valid", "model")], with_token=True)
    assert time.monotonic() - before < 2
    assert {report.access[question] for question in questions} == {Access.UNREACHABLE}


async def test_a_hub_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    for endpoint in ("http://127.0.0.1:9", "http://no.such.host.invalid", "not a url"):
        hub = Hub({"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}, timeout_seconds=1)
        assert await access(hub, "org/valid") is Access.UNREACHABLE


async def test_data_sets_and_revisions_are_asked_for_where_they_are(
    server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path)
    await access(hub, "org/valid", kind="dataset")
    await access(hub, "org/valid", revision="v1.0")
    assert server.asked == [
        "/api/datasets/org/valid/auth-check",
        "/org/valid/resolve/v1.0/config.json",
    ]


async def test_a_gated_data_set_is_told_although_all_may_read_its_readme(
    server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path)
    assert await access(hub, "org/open-readme", kind="dataset") is Access.GATED
    # A mirror that does not know the question is asked for the file.
    assert await access(hub, "org/old-mirror", kind="dataset") is Access.GATED
    assert server.asked[-1] == "/datasets/org/old-mirror/resolve/main/README.md"


def cached(home: Path, name: str, *, ref: str | None = "main") -> None:
    """A repository of which the cache has one commit, `abc`."""
    folder = home / "hub" / f"models--org--{name}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").touch()
    if ref:
        (folder / "refs").mkdir()
        (folder / "refs" / ref).write_text("abc")


async def test_what_is_in_the_cache_is_not_asked_for(server: HubServer, tmp_path: Path) -> None:
    cached(tmp_path, "hangs")
    assert await access(hub_at(server, tmp_path), "org/hangs") is Access.CACHED
    assert await access(hub_at(server, tmp_path), "org/hangs", revision="abc") is Access.CACHED
    assert server.asked == []


async def test_a_revision_that_is_not_in_the_cache_is_asked_for(
    server: HubServer, tmp_path: Path
) -> None:
    cached(tmp_path, "valid")
    assert await access(hub_at(server, tmp_path), "org/valid", revision="v9") is Access.VALID
    assert server.asked == ["/org/valid/resolve/v9/config.json"]
    offline = hub_at(server, tmp_path, HF_HUB_OFFLINE="1")
    assert await access(offline, "org/valid", revision="v9") is Access.OFFLINE
    assert await access(offline, "org/valid") is Access.CACHED


class SilentNames:
    """A name server that is asked and does not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = threading.Event()
        self.asked = 0
        known = socket.getaddrinfo

        def getaddrinfo(host: str | bytes | None, *args: Any, **options: Any) -> Any:
            if host in ("hub.invalid", b"hub.invalid"):
                self.asked += 1
                self.answer.wait(60)
                raise socket.gaierror("no answer")
            return known(host, *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_name_servers_that_are_silent_hold_up_nothing_else_and_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = SilentNames(monkeypatch)
    clock = [100.0]
    given = {"HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(tmp_path)}
    hub = Hub(given, timeout_seconds=60, now=lambda: clock[0])
    questions = [Question(f"org/{number}", "model") for number in range(40)]
    try:
        for _ in range(3):
            before = time.monotonic()
            report = await hub.look(questions, with_token=False, within_seconds=1.5)
            assert time.monotonic() - before < 5
            assert set(report.access.values()) == {Access.UNREACHABLE}
            clock[0] += 16
        asked = names.asked
        assert asked
        before = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(40)))
        assert time.monotonic() - before < 5
        clock[0] -= 2
        await hub.look(questions, with_token=False)
        assert names.asked == asked
    finally:
        names.answer.set()


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_offline_it_is_never_asked(server: HubServer, tmp_path: Path, variable: str) -> None:
    environ: dict[str, Any] = {variable: "1"}
    hub = hub_at(server, tmp_path, **environ)
    assert await access(hub, "org/valid") is Access.OFFLINE
    assert server.asked == []


@pytest.mark.parametrize(("token", "known"), [("hf_good", True), ("hf_old", False), ("", False)])
async def test_it_tells_whether_the_hub_takes_our_token(
    server: HubServer, tmp_path: Path, token: str, known: bool
) -> None:
    (tmp_path / "token").write_text(f"{token}\n")
    report = await hub_at(server, tmp_path).look([Question("o/valid", "model")], with_token=True)
    assert report.authenticated is known
    assert server.tokens == ({token} if token else set())


async def test_a_job_that_gets_no_token_is_looked_up_without_one(
    server: HubServer, tmp_path: Path
) -> None:
    hub = hub_at(server, tmp_path, HF_TOKEN="hf_good")
    await hub.look([Question("o/valid", "model")], with_token=False)
    assert server.tokens == set()


async def test_a_look_that_is_cancelled_ends_at_once(server: HubServer, tmp_path: Path) -> None:
    task = asyncio.create_task(access(hub_at(server, tmp_path, timeout=60), "org/hangs"))
    await server.was_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
