"""What a person does in the Prefect UI is understood: pauses, limits, and ends set by hand."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client

from mcp_server.engine.pool_gates import gate_findings
from mcp_server.engine.rest import rest
from tests.mcp_server.calls import ok
from tests.mcp_server.prefect_stub import PrefectServer
from tests.support.waiting import eventually

Submit = Callable[..., Awaitable[str]]
POOL = "/work_pools/oumi"
QUEUE = f"{POOL}/queues/default"


@pytest.fixture
def submit(client: Client, config: Path) -> Submit:
    async def submit(**arguments: Any) -> str:
        given = {"config_path": config.name, "client_cwd": str(config.parent), "dry_run": False}
        return (await ok(client, "run_oumi_job", **(given | arguments)))["job_id"]

    return submit


@pytest.fixture
def gate(prefect: PrefectServer) -> Iterator[Callable[..., None]]:
    """Changes the pool or its queue as a person does; undoes it in the end."""

    def change(path: str, **changes: Any) -> None:
        prefect.call("PATCH", path, changes)

    yield change
    for path in (POOL, QUEUE):
        change(path, is_paused=False, concurrency_limit=None)


async def message(client: Client, job_id: str) -> str:
    found: list[str] = []

    async def has_one() -> bool:
        found.append((await ok(client, "get_job_status", job_id=job_id))["summary"])
        return "It waits: " in found[-1]

    await eventually(has_one, timeout=20)
    return found[-1]


@pytest.mark.parametrize(
    ("path", "changes", "says"),
    [
        (POOL, {"is_paused": True}, "the work pool oumi is paused; resume it in the Prefect UI"),
        (QUEUE, {"is_paused": True}, "the queue default of the work pool oumi is paused"),
        (POOL, {"concurrency_limit": 0}, "the work pool oumi has reached its limit of 0"),
        (QUEUE, {"concurrency_limit": 1}, "the queue default of the work pool oumi has reached"),
    ],
)
async def test_a_job_says_what_keeps_it_waiting_and_so_does_the_doctor(
    submit: Submit,
    client: Client,
    prefect: PrefectServer,
    gate: Callable[..., None],
    path: str,
    changes: dict[str, Any],
    says: str,
) -> None:
    prefect.set_states(await submit(), "RUNNING")
    job_id = await submit(own_output=True)
    assert "It waits" not in (await ok(client, "get_job_status", job_id=job_id))["summary"]
    gate(path, **changes)
    assert says in await message(client, job_id)
    with rest(prefect, timeout=20) as api:  # pyright: ignore[reportArgumentType]
        found = list(gate_findings(api, "oumi"))
    if changes.get("concurrency_limit") != 1:
        assert [says.partition(";")[0] in finding.what for finding in found] == [True]


@pytest.mark.parametrize(
    ("state", "reason"), [("FAILED/Failed", "killed"), ("COMPLETED/Completed", "completed")]
)
async def test_an_end_set_by_hand_is_said_to_be_one_with_its_step(
    submit: Submit, client: Client, prefect: PrefectServer, state: str, reason: str
) -> None:
    job_id = await submit()
    prefect.set_states(job_id, "RUNNING")
    prefect.label(job_id, attempt=1, launched_attempt=1)
    prefect.show_progress(job_id, 50, step="30", max_steps="60")
    prefect.set_states(job_id, state, message="enough")
    status = await ok(client, "get_job_status", job_id=job_id)
    assert status["termination_reason"] == reason
    name = state.partition("/")[2]
    assert (
        f"It was set by hand to {name} in the Prefect UI or through its API at step 30 of 60: "
        "enough" in status["summary"]
    )


@pytest.mark.parametrize(
    ("state", "message", "reason"),
    [
        ("FAILED/Failed", "nonzero_exit: It exited with 1", "nonzero_exit"),
        ("FAILED/Failed", "Flow run encountered an exception: x", "launch_failed"),
        ("COMPLETED/Completed", "completed: Done", "completed"),
    ],
)
async def test_another_end_is_not(
    submit: Submit, client: Client, prefect: PrefectServer, state: str, message: str, reason: str
) -> None:
    job_id = await submit()
    prefect.set_states(job_id, "RUNNING")
    prefect.label(job_id, attempt=1, launched_attempt=1)
    prefect.set_states(job_id, state, message=message)
    status = await ok(client, "get_job_status", job_id=job_id)
    assert status["termination_reason"] == reason
    assert "by hand" not in status["summary"]
