"""Why a job that is due does not start."""

from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import TypeAdapter

from flows.core.pool_state import ACTIVE_TYPES, Gate, why_pool_waits, why_queue_waits
from flows.core.states import JobState
from mcp_server.prefect_api.gateway import PrefectGateway
from mcp_server.prefect_api.models import FlowRun

_GATE: Final = TypeAdapter(Gate)
_COUNT: Final = TypeAdapter(int)
_WAITING: Final = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.RETRYING})
_SOON: Final = timedelta(seconds=1)
"""How long after its time a run may still start without a word."""


async def why_waiting(gateway: PrefectGateway, run: FlowRun, *, now: datetime) -> str:
    """Say what a person did in Prefect that keeps a due job waiting; empty: nothing.

    Args:
        gateway: Prefect's API.
        run: The job's run.
        now: The time of this observation.
    """
    is_due = run.expected_start_time + _SOON < now
    if run.state.job_state not in _WAITING or not is_due or run.work_pool_name is None:
        return ""
    path = f"/work_pools/{run.work_pool_name}"
    pool = await gateway.ask("GET", path, None, _GATE)
    if pool is None:
        return ""
    wanted = {"work_pools": {"name": {"any_": [pool.name]}}}
    if why := why_pool_waits(pool, active=await _active(gateway, pool, wanted)):
        return f"It waits: {why}."
    if run.work_queue_name is None:
        return ""
    queue = await gateway.ask("GET", f"{path}/queues/{run.work_queue_name}", None, _GATE)
    if queue is None:
        return ""
    wanted |= {"work_pool_queues": {"name": {"any_": [queue.name]}}}
    why = why_queue_waits(queue, pool, active=await _active(gateway, queue, wanted))
    return f"It waits: {why}." if why else ""


async def _active(gateway: PrefectGateway, gate: Gate, wanted: dict[str, Any]) -> int:
    """Count the runs that fill a limit; asks only if there is one."""
    if gate.concurrency_limit is None:
        return 0
    body = {"flow_runs": {"state": {"type": {"any_": list(ACTIVE_TYPES)}}}, **wanted}
    return await gateway.ask("POST", "/flow_runs/count", body, _COUNT) or 0
