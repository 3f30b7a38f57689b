"""Whether a server has what this process would apply to it, tested without a server."""

from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from flows.core.names import WORKER_TYPE
from flows.core.settings import Settings
from mcp_server.engine.deployments import DeployedRecord, Deployments
from mcp_server.engine.files import EngineFiles
from mcp_server.engine.rest import Rest
from mcp_server.engine.values import Connection


class Server:
    """Has the deployments of pools."""

    def __init__(self, **pools: str) -> None:
        self.pools = pools

    def get(self, path: str, shape: TypeAdapter[Any]) -> Any:
        name = path.rpartition("/")[2]
        pool = "oumi" if name == "default" else name
        if pool not in self.pools:
            return None
        return shape.validate_python({"id": self.pools[pool], "work_pool_name": pool})


def succeed(*_: object, **__: object) -> str:
    """What `prefect deploy` does without failing."""
    return ""


class Process:
    """One that looks after the deployments of a home."""

    def __init__(self, home: Path, *, version: str = "1", pool: str = "oumi") -> None:
        settings = Settings(home=home, work_pool=pool)
        self._files = EngineFiles(settings)
        self._files.prepare()
        self._deployments = Deployments(self._files, settings, {}, version=version, run=succeed)

    def are_current(self, server: Server) -> bool:
        return self._deployments.are_current(cast("Rest", server))

    def apply(self, server: Server) -> None:
        connection = Connection(api_url="http://localhost/api", ui_url="", embedded=True)
        self._deployments.apply(connection, cast("Rest", server))

    def ensure_pool(self, server: "PoolServer") -> None:
        self._deployments.ensure_pool(cast("Rest", server))

    def recorded(self) -> DeployedRecord | None:
        return self._files.read(self._files.deployed_record, DeployedRecord)


def test_two_versions_do_not_undo_each_others_deployment_for_ever(tmp_path: Path) -> None:
    server = Server(oumi="one")
    old, new = Process(tmp_path), Process(tmp_path, version="2")
    assert not old.are_current(server)
    old.apply(server)
    assert not new.are_current(server)
    new.apply(server)
    assert old.are_current(server)
    assert new.are_current(server)
    # One that starts afterwards brings its own once more.
    assert not Process(tmp_path).are_current(server)


def test_a_process_that_saw_its_own_leaves_what_came_after(tmp_path: Path) -> None:
    server = Server(oumi="one")
    Process(tmp_path).apply(server)
    old = Process(tmp_path)
    assert old.are_current(server)
    Process(tmp_path, version="2").apply(server)
    assert old.are_current(server)
    server.pools["oumi"] = "another"
    assert not old.are_current(server)
    server.pools.clear()
    assert not old.are_current(server)


def test_each_pool_has_a_record_of_its_own(tmp_path: Path) -> None:
    server = Server(oumi="one", theirs="two")
    ours, theirs = Process(tmp_path), Process(tmp_path, pool="theirs")
    ours.apply(server)
    assert not theirs.are_current(server)
    theirs.apply(server)
    for process, wanted in ((ours, "one"), (theirs, "two")):
        assert process.are_current(server)
        recorded = process.recorded()
        assert recorded is not None
        assert recorded.deployment_id == wanted


class PoolServer:
    """Has one pool, and notes what is written to it."""

    def __init__(self, pool: dict[str, Any] | None) -> None:
        self.pool = pool
        self.made: list[Any] = []
        self.changed: list[Any] = []

    def get(self, path: str, shape: TypeAdapter[Any]) -> Any:
        if "/queues/" in path:
            return {"name": path.rpartition("/")[2]}
        return None if self.pool is None else shape.validate_python(self.pool)

    def post(self, path: str, body: Any, shape: TypeAdapter[Any]) -> None:
        self.made.append(body)
        self.pool = body

    def patch(self, path: str, body: Any) -> None:
        self.changed.append(body)
        assert self.pool is not None
        self.pool |= body


@pytest.mark.parametrize(
    ("pool", "made", "changed"),
    [
        (None, 1, 0),
        (
            {"type": WORKER_TYPE, "base_job_template": {"variables": {"properties": {"a": {}}}}},
            0,
            1,
        ),
        ({"type": "process", "base_job_template": {}}, 0, 0),
    ],
)
def test_a_pool_of_ours_has_no_variables_that_each_run_would_be_checked_against(
    tmp_path: Path, pool: dict[str, Any] | None, made: int, changed: int
) -> None:
    server = PoolServer(pool)
    for _ in range(2):
        Process(tmp_path).ensure_pool(server)
    assert (len(server.made), len(server.changed)) == (made, changed)
    if made or changed:
        assert server.pool is not None
        assert server.pool["base_job_template"]["variables"]["properties"] == {}
