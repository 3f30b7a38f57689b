"""The commands for machines, on a gateway that answers from memory."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.services.machines import MachineService
from tests.cli.conftest import Terminal

SEEN = "2026-12-01T09:00:00Z"


class Pools:
    """Two pools of three workers."""

    def __init__(self) -> None:
        self.workers: dict[str, dict[str, str]] = {
            "boxes": {"box-1": "ONLINE", "box/2": "OFFLINE"},
            "oumi": {"laptop": "OFFLINE"},
        }
        self.told: list[tuple[str, str]] = []

    async def ask(self, _: str, path: str, body: Mapping[str, Any], shape: Any) -> Any:
        if path == "/flow_runs/count":
            running = "RUNNING" in body["flow_runs"]["state"]["type"]["any_"]
            return shape.validate_python(2 if running else 5)
        if path == "/work_pools/filter":
            assert body["work_pools"]["type"] == {"any_": ["oumi"]}
            return shape.validate_python([{"name": name} for name in self.workers])
        pool = path.split("/")[2]
        return shape.validate_python(
            [
                {"name": name, "status": status, "last_heartbeat_time": SEEN}
                for name, status in self.workers[pool].items()
            ]
        )

    async def tell(self, method: str, path: str) -> bool:
        self.told.append((method, path))
        return True


@pytest.fixture
def pools(terminal: Terminal) -> Pools:
    pools = Pools()
    service = MachineService(cast("PrefectGateway", pools))
    terminal.services["machines"] = lambda _: service
    return pools


def test_machines_are_listed_by_pool(terminal: Terminal, pools: Pools) -> None:
    done = terminal("machines")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["MACHINE", "POOL", "STATE", "LAST", "SEEN", "RUNNING", "WAITING"]
    assert [(row[0], row[1], row[2], *row[-2:]) for row in rows[1:]] == [
        ("box-1", "boxes", "online", "2", "5"),
        ("box/2", "boxes", "offline", "2", "5"),
        ("laptop", "oumi", "offline", "2", "5"),
    ]
    listed = terminal("machines", "--json").json
    assert listed["summary"] == "3 machines, 1 online."
    pools.workers = {"oumi": {}}
    assert "0 machines, 0 online." in terminal("machines").err


def test_a_machine_that_is_gone_is_forgotten(terminal: Terminal, pools: Pools) -> None:
    done = terminal("forget-machine", "box/2")
    assert done.code == 0
    assert done.out.startswith("box/2 is forgotten. Another worker of the pool boxes gives up")
    assert pools.told == [("DELETE", "/work_pools/boxes/workers/box%2F2")]


def test_the_last_machine_of_a_pool_needs_another_one(terminal: Terminal, pools: Pools) -> None:
    done = terminal("forget-machine", "laptop", "--json").json
    assert "No other worker of the pool oumi is online; the next one" in done["summary"]
    assert "OUMI_FLOWS_WORK_POOL=oumi" in done["summary"]
    assert pools.told == [("DELETE", "/work_pools/oumi/workers/laptop")]


def test_a_machine_that_is_online_or_unknown_is_not(terminal: Terminal, pools: Pools) -> None:
    refused = terminal("forget-machine", "box-1", "--json")
    assert refused.error["code"] == "CONFLICT"
    unknown = terminal("forget-machine", "box-3", "--json")
    assert unknown.error["code"] == "INVALID_ARGUMENT"
    assert "box-1, box/2, laptop" in unknown.error["message"]
    assert pools.told == []
