"""The machines that run jobs: the workers of Prefect's work pools."""

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from pydantic import AwareDatetime, Field, TypeAdapter

from flows.core import names
from flows.core.errors import Conflict, InvalidArgument
from flows.core.models import Answer, Value
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun, PoolWorker, WorkPool

_POOLS: Final = TypeAdapter(list[WorkPool])
_WORKERS: Final = TypeAdapter(list[PoolWorker])
_COUNT: Final = TypeAdapter(int)
_RUNNING: Final = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]


class Machine(Value):
    """A worker of a pool. Its name begins with that of its host."""

    name: str
    pool: str
    online: bool = Field(description="Whether it sends heartbeats.")
    last_seen_at: AwareDatetime | None
    running: int = Field(description="Jobs of its pool that run.")
    waiting: int = Field(description="Jobs of its pool that wait.")


class MachineList(Answer):
    """The machines that run jobs."""

    machines: list[Machine]


class Forgotten(Answer):
    """A machine that was forgotten."""

    name: str
    pool: str


class MachineService:
    """Lists machines, and forgets one that does not come back.

    Args:
        gateway: Prefect's API.
    """

    def __init__(self, gateway: PrefectGateway) -> None:
        self._gateway = gateway

    async def list(self) -> MachineList:
        """List the workers of all pools for Oumi jobs."""
        machines: list[Machine] = []
        for pool in await self._pools():
            if workers := await self._workers(pool):
                running = await self._count(pool, _RUNNING)
                waiting = await self._count(pool, ["SCHEDULED"])
                machines += [
                    Machine(
                        name=worker.name,
                        pool=pool,
                        online=worker.is_online,
                        last_seen_at=worker.last_heartbeat_time,
                        running=running,
                        waiting=waiting,
                    )
                    for worker in workers
                ]
        online = sum(machine.online for machine in machines)
        return MachineList(
            summary=f"{len(machines)} machine{'s' * (len(machines) != 1)}, {online} online.",
            machines=machines,
        )

    async def forget(self, name: str) -> Forgotten:
        """Take a worker out of its pool, so that other workers give up what needs its machine.

        Args:
            name: Its name in the list.

        Raises:
            InvalidArgument: There is no such machine.
            Conflict: It is online.
        """
        known: list[str] = []
        for pool in await self._pools():
            workers = await self._workers(pool)
            known += [worker.name for worker in workers]
            for worker in workers:
                if worker.name == name:
                    has_others = any(other.is_online for other in workers)
                    return await self._forget(worker, pool, has_others=has_others)
        raise InvalidArgument(
            f"There is no machine {name!r}. There are {', '.join(known) or 'none'}",
            "Give a name that `oumi-flows machines` shows",
        )

    async def _forget(self, worker: PoolWorker, pool: str, *, has_others: bool) -> Forgotten:
        if worker.is_online:
            raise Conflict(
                f"{worker.name} is online: it sends heartbeats, or did a few seconds ago",
                "Stop it with `oumi-flows down` on its machine; if that is gone, wait a minute",
            )
        await self._gateway.tell("DELETE", f"{_path(pool)}/workers/{quote(worker.name, safe='')}")
        then = (
            f"Another worker of the pool {pool} gives up its local jobs within a minute"
            if has_others
            else f"No other worker of the pool {pool} is online; the next one that starts, with "
            f"OUMI_FLOWS_WORK_POOL={pool}, gives up its local jobs"
        )
        return Forgotten(
            summary=f"{worker.name} is forgotten. {then}: they are crashed (lost), or start again "
            "if max_retries allows.",
            name=worker.name,
            pool=pool,
        )

    async def _pools(self) -> "list[str]":
        body = {"work_pools": {"type": {"any_": [names.WORKER_TYPE]}}}
        found = await self._gateway.ask("POST", "/work_pools/filter", body, _POOLS)
        return sorted(pool.name for pool in found or [])

    async def _workers(self, pool: str) -> "list[PoolWorker]":
        return await _read_workers(self._gateway, pool)

    async def _count(self, pool: str, types: "list[str]") -> int:
        body: dict[str, Any] = {
            "flow_runs": {
                "state": {"type": {"any_": types}},
                "tags": {"all_": [names.TAG]},
                # Later times are the plans of schedules.
                "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
            },
            "work_pools": {"name": {"any_": [pool]}},
        }
        return await self._gateway.ask("POST", "/flow_runs/count", body, _COUNT) or 0


async def describe_silence(gateway: PrefectGateway, run: FlowRun) -> str:
    """Say since when the machine that executes a run has been silent; empty: it is not.

    The embedded engine has one machine, this one.
    """
    name, pool = run.worker_name, run.work_pool_name
    if run.state.type not in _RUNNING or not name or pool is None:
        return ""
    if (await gateway.engine.connection()).embedded:
        return ""
    found = {worker.name: worker for worker in await _read_workers(gateway, pool)}
    if name not in found:
        return f"Its machine {name} was forgotten; another one gives the job up soon."
    worker = found[name]
    if worker.is_online:
        return ""
    since = worker.last_heartbeat_time
    when = f"since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "yet"
    return f"Its machine {name} has not been heard of {when}. The job may still run there."


async def _read_workers(gateway: PrefectGateway, pool: str) -> list[PoolWorker]:
    found = await gateway.ask("POST", f"{_path(pool)}/workers/filter", {}, _WORKERS)
    return sorted(found or [], key=lambda worker: worker.name)


def _path(pool: str) -> str:
    return f"/work_pools/{quote(pool, safe='')}"
