"""The ``jobs://`` resources and their change notifications, in both protocol eras."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import ResourceUpdatedNotification

from flows.core.names import launch_key
from mcp_server.server import Options, Parts, build_server
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer


async def submit(client: Client, config: Path) -> str:
    job = await ok(
        client,
        "run_oumi_job",
        config_path=str(config),
        client_cwd=str(config.parent),
        dry_run=False,
    )
    return job["job_id"]


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    return getattr(content, "text")  # noqa: B009 - of whichever kind it is


async def test_jobs_are_read_as_resources(
    client: Client, config: Path, prefect: PrefectServer, tmp_path: Path
) -> None:
    job_id = await submit(client, config)
    assert json.loads(await read(client, f"jobs://{job_id}"))["state"] == "scheduled"
    running = json.loads(await read(client, "jobs://running"))["jobs"]
    assert job_id in [job["job_id"] for job in running]
    log = tmp_path / "log"
    log.write_text("hello\n")
    prefect.label(job_id, log_path=str(log))
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    assert await read(client, f"jobs://{job_id}/logs") == "hello"
    ended = json.loads(await read(client, "jobs://completed"))["jobs"]
    assert job_id in [job["job_id"] for job in ended]


async def test_the_log_of_all_attempts_is_read_whole(
    client: Client, config: Path, prefect: PrefectServer, tmp_path: Path
) -> None:
    job_id = await submit(client, config)
    key = launch_key(job_id, 1).removesuffix("1")
    logs = [tmp_path / f"{key}{attempt}" / "log.txt" for attempt in (1, 2)]
    texts = ["".join(f"{attempt} {line}\n" for line in range(9000)) for attempt in (1, 2)]
    for log, text in zip(logs, texts, strict=True):
        log.parent.mkdir()
        log.write_text(text)
    prefect.label(job_id, log_path=str(logs[1]), attempt=2)
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    assert await read(client, f"jobs://{job_id}/logs") == "".join(texts)[:-1]


async def test_of_a_long_log_the_beginning_and_the_end_are_read(
    client: Client, config: Path, prefect: PrefectServer, tmp_path: Path
) -> None:
    job_id = await submit(client, config)
    log = tmp_path / "log"
    lines = [f"{number} {'x' * 100}" for number in range(6000)]
    log.write_text("\n".join(lines))
    prefect.label(job_id, log_path=str(log))
    prefect.set_states(job_id, "PENDING", "RUNNING", "COMPLETED")
    found = (await read(client, f"jobs://{job_id}/logs")).splitlines()
    assert (found[0], found[-1]) == (lines[0], lines[-1])
    (cut,) = [line for line in found if line not in set(lines)]
    assert cut == (
        f"[oumi-flows: the middle of this log was left out; the whole log is at {log}; "
        "get_job_logs reads it in pages]"
    )
    assert len("\n".join(found)) < 200_000


@pytest.mark.parametrize("uri", ["jobs://ffffffff", "jobs://ffffffff/logs", "jobs://a/b/c"])
async def test_a_resource_that_is_not_there_is_an_error(client: Client, uri: str) -> None:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.error.code == -32602


async def test_a_listener_is_notified_when_a_job_changes(
    client: Client, config: Path, prefect: PrefectServer
) -> None:
    job_id = await submit(client, config)
    uris = [f"jobs://{job_id}", "jobs://completed"]
    async with client.listen(resource_subscriptions=uris) as events:
        await asyncio.to_thread(prefect.set_states, job_id, "PENDING", "RUNNING")
        async with asyncio.timeout(20):
            assert await anext(aiter(events)) == ResourceUpdated(uri=uris[0])
            await asyncio.to_thread(prefect.set_states, job_id, "FAILED")
            seen = {(await anext(aiter(events))).uri for _ in uris}  # pyright: ignore
    assert seen == set(uris)


async def test_a_subscriber_of_the_handshake_era_is_notified_until_it_leaves(
    parts: Parts, config: Path, prefect: PrefectServer
) -> None:
    uris: asyncio.Queue[str] = asyncio.Queue()

    async def on_message(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            uris.put_nowait(message.params.uri)

    server = build_server(parts, Options())
    async with Client(server, mode="legacy", message_handler=on_message) as client:
        job_id = await submit(client, config)
        uri = f"jobs://{job_id}"
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]
        await asyncio.to_thread(prefect.set_states, job_id, "PENDING", "RUNNING")
        assert await asyncio.wait_for(uris.get(), timeout=20) == uri
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource(uri)  # pyright: ignore[reportDeprecated]
