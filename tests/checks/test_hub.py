import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flows.hub import Access, Hub, Question
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
        "/datasets/org/valid/resolve/main/README.md",
        "/org/valid/resolve/v1.0/config.json",
    ]


async def test_what_is_in_the_cache_is_not_asked_for(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "hub" / "models--org--hangs" / "snapshots" / "abc").mkdir(parents=True)
    assert await access(hub_at(server, tmp_path), "org/hangs") is Access.CACHED
    assert server.asked == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
async def test_offline_it_is_never_asked(server: HubServer, tmp_path: Path, variable: str) -> None:
    hub = hub_at(server, tmp_path, **{variable: "1"})
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
